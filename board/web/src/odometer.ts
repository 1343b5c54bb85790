import { grouped } from "./money";

/**
 * A number whose digits roll. The digits of the strip are decoration: the value itself, in
 * `data-value` and for screen readers, changes at once and is never one that was not true.
 */
export class Odometer {
  private value = "";
  private readonly spoken = document.createElement("span");
  private readonly digits = document.createElement("span");

  constructor(private readonly root: HTMLElement) {
    this.spoken.className = "spoken";
    this.digits.className = "digits";
    this.digits.ariaHidden = "true";
    root.append(this.spoken, this.digits);
  }

  show(decimal: string): void {
    if (decimal === this.value) return;
    const chars = grouped(decimal);
    this.value = decimal;
    this.root.dataset.value = decimal;
    this.spoken.textContent = chars;
    this.root.style.setProperty("--chars", String(chars.length));
    // Cells are kept from the right, where the decimal point is.
    while (this.digits.children.length > chars.length) this.digits.firstElementChild?.remove();
    while (this.digits.children.length < chars.length) this.digits.prepend(document.createElement("span"));
    for (let i = 0; i < chars.length; i++) cell(this.digits.children[i] as HTMLElement, chars.charAt(i));
  }
}

function cell(element: HTMLElement, char: string): void {
  const digit = /\d/.test(char);
  const kind = digit ? "digit" : "mark";
  if (element.className !== kind) {
    element.className = kind;
    element.replaceChildren();
    if (digit) {
      const strip = document.createElement("span");
      strip.className = "strip";
      strip.textContent = "0\n1\n2\n3\n4\n5\n6\n7\n8\n9";
      element.append(strip);
    }
  }
  if (digit) (element.firstElementChild as HTMLElement).style.setProperty("--digit", char);
  else element.textContent = char;
}
