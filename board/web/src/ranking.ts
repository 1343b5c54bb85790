import { compact, grouped, hundredths } from "./money";
import { named } from "./names";
import type { Sales } from "./types";

const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

interface Item {
  root: HTMLElement;
  place: HTMLElement;
  name: HTMLElement;
  gmv: HTMLElement;
  bar: HTMLElement;
}

/** The list of provinces by sales; rows glide to their new places. */
export class Ranking {
  private readonly items = new Map<string, Item>();

  constructor(
    private readonly list: HTMLElement,
    private readonly chosen: (province: string) => void,
  ) {}

  draw(sales: Sales[], language: string): void {
    const before = new Map([...this.items].map(([key, item]) => [key, item.root.offsetTop]));
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
      item.gmv.textContent = compact(row.gmv, language === "zh" ? "zh-CN" : "en");
      item.gmv.title = grouped(row.gmv);
      item.root.dataset.gmv = row.gmv;
      item.root.dataset.orders = String(row.orders);
      item.bar.style.setProperty("--share", String(Math.max(0, Number(gmv) / most)));
      if (this.list.children[index] !== item.root) this.list.insertBefore(item.root, this.list.children[index] ?? null);
    });
    if (still) return;
    for (const [province, item] of this.items) {
      const moved = (before.get(province) ?? item.root.offsetTop) - item.root.offsetTop;
      if (moved === 0) continue;
      item.root.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
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
