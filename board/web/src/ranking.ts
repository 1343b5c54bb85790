import { compact, grouped, hundredths } from "./money";
import { named } from "./names";
import type { Sales } from "./types";
import { units } from "./words";

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Rows of a column: half of China's provincial-level divisions. */
const ROWS = 17;

interface Item {
  root: HTMLElement;
  button: HTMLElement;
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
    private readonly pointed: (province: string) => void,
    private readonly chosen: (province: string) => void,
  ) {}

  draw(sales: Sales[], chosen: string | null, language: string): void {
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
      // The list itself can be focused: who reads it by keyboard stays in it.
      if (item.root.contains(document.activeElement)) this.list.focus({ preventScroll: true });
      item.root.remove();
      this.items.delete(province);
    }
    const order = sorted.map(({ row, gmv }, index) => {
      const item = this.items.get(row.province) ?? this.make(row.province);
      item.place.textContent = String(index + 1);
      item.name.textContent = named(row.province, language);
      item.name.title = item.name.textContent;
      item.gmv.textContent = compact(row.gmv, units(language), two ? 8 : 14);
      item.gmv.title = grouped(row.gmv);
      item.root.dataset.gmv = row.gmv;
      item.root.dataset.orders = String(row.orders);
      item.bar.style.setProperty("--share", String(Math.max(0, Number(gmv) / most)));
      item.button.ariaCurrent = row.province === chosen ? "true" : null;
      return item.root;
    });
    this.arrange(order);
    if (still) return;
    for (const [province, item] of this.items) {
      const now = place(item);
      const [x, y] = (before.get(province) ?? now).map((was, axis) => was - (now[axis] ?? 0));
      if (!x && !y) continue;
      item.root.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
    }
  }

  /** Puts the rows in order around the one that has the focus: an element that is moved loses it. */
  private arrange(order: HTMLElement[]): void {
    const fixed = Math.max(0, order.findIndex((row) => row.contains(document.activeElement)));
    const anchor = order[fixed];
    if (!anchor) return;
    if (anchor.parentElement !== this.list) this.list.append(anchor);
    for (let i = fixed - 1; i >= 0; i--) {
      const [row, next] = [order[i] as HTMLElement, order[i + 1] as HTMLElement];
      if (row.nextElementSibling !== next) next.before(row);
    }
    for (let i = fixed + 1; i < order.length; i++) {
      const [row, last] = [order[i] as HTMLElement, order[i - 1] as HTMLElement];
      if (row.previousElementSibling !== last) last.after(row);
    }
  }

  private make(province: string): Item {
    const make = (tag: string, name: string) => Object.assign(document.createElement(tag), { className: name });
    const button = make("button", "pick") as HTMLButtonElement;
    const item = { root: make("li", "rank"), button, place: make("span", "place"), name: make("span", "name"), gmv: make("span", "gmv"), bar: make("span", "bar") };
    item.root.dataset.province = province;
    button.type = "button";
    button.append(item.place, item.name, item.gmv, item.bar);
    button.addEventListener("click", () => this.chosen(province));
    button.addEventListener("focus", () => this.chosen(province));
    button.addEventListener("mouseenter", () => this.pointed(province));
    item.root.append(button);
    this.items.set(province, item);
    return item;
  }
}
