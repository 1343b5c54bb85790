import { compact, grouped, hundredths } from "./money";
import { named } from "./names";
import type { Sales } from "./types";
import { units } from "./words";

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Rows of a column: half of China's provincial-level divisions. */
const ROWS = 17;

interface Item {
  root: HTMLElement;
  place: HTMLElement;
  name: HTMLElement;
  gmv: HTMLElement;
  bar: HTMLElement;
}

const place = ({ root }: Item) => [root.offsetLeft, root.offsetTop];

/** The list of provinces by sales; rows glide to their new places. */
export class Ranking {
  private readonly items = new Map<string, Item>();

  constructor(
    private readonly list: HTMLElement,
    private readonly chosen: (province: string) => void,
  ) {}

  draw(sales: Sales[], language: string): void {
    const before = new Map([...this.items].map(([key, item]) => [key, place(item)]));
    // Many provinces take two columns where there is room, with numbers short enough for them.
    const two = sales.length > ROWS && getComputedStyle(this.list).display === "grid";
    this.list.style.setProperty("--columns", two ? "2" : "1");
    this.list.style.setProperty("--rows", String(Math.max(ROWS, Math.ceil(sales.length / 2))));
    const sorted = sales
      .map((row) => ({ row, gmv: hundredths(row.gmv) }))
      .sort((a, b) => (a.gmv < b.gmv ? 1 : a.gmv > b.gmv ? -1 : a.row.province < b.row.province ? -1 : 1));
    const most = Number(sorted[0]?.gmv ?? 1n) || 1;
    const present = new Set(sales.map((row) => row.province));
    for (const [province, item] of this.items) {
      if (present.has(province)) continue;
      item.root.remove();
      this.items.delete(province);
    }
    sorted.forEach(({ row, gmv }, index) => {
      const item = this.items.get(row.province) ?? this.make(row.province);
      item.place.textContent = String(index + 1);
      item.name.textContent = named(row.province, language);
      item.name.title = item.name.textContent;
      item.gmv.textContent = compact(row.gmv, units(language), two ? 8 : 14);
      item.gmv.title = grouped(row.gmv);
      item.root.dataset.gmv = row.gmv;
      item.root.dataset.orders = String(row.orders);
      item.bar.style.setProperty("--share", String(Math.max(0, Number(gmv) / most)));
      if (this.list.children[index] !== item.root) this.list.insertBefore(item.root, this.list.children[index] ?? null);
    });
    if (still) return;
    for (const [province, item] of this.items) {
      const now = place(item);
      const [x, y] = (before.get(province) ?? now).map((was, axis) => was - (now[axis] ?? 0));
      if (!x && !y) continue;
      item.root.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
    }
  }

  private make(province: string): Item {
    const make = (tag: string, name: string) => Object.assign(document.createElement(tag), { className: name });
    const item = { root: make("li", "rank"), place: make("span", "place"), name: make("span", "name"), gmv: make("span", "gmv"), bar: make("span", "bar") };
    item.root.dataset.province = province;
    const button = make("button", "pick") as HTMLButtonElement;
    button.type = "button";
    button.append(item.place, item.name, item.gmv, item.bar);
    button.addEventListener("click", () => this.chosen(province));
    button.addEventListener("focus", () => this.chosen(province));
    button.addEventListener("mouseenter", () => this.chosen(province));
    item.root.append(button);
    this.items.set(province, item);
    return item;
  }
}
