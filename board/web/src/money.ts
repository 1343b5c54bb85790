/** Exact money: decimal text with two places, added as integers of hundredths. */
export function hundredths(text: string): bigint {
  const [whole = "0", fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(2, "0").slice(0, 2));
}

export function text(value: bigint): string {
  const digits = (value < 0n ? -value : value).toString().padStart(3, "0");
  return `${value < 0n ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}

/** `sum / count` as decimal text with four places, rounded half away from zero as the databases do. */
export function mean(sum: bigint, count: number): string {
  if (count === 0) return "0.0000";
  const [scaled, by] = [(sum < 0n ? -sum : sum) * 100n, BigInt(count)];
  const digits = ((scaled + by / 2n) / by).toString().padStart(5, "0");
  return `${sum < 0n ? "-" : ""}${digits.slice(0, -4)}.${digits.slice(-4)}`;
}

/** Groups the digits of decimal text by thousands; no digit is lost. */
export function grouped(decimal: string): string {
  const [whole = "", fraction] = decimal.split(".");
  const spaced = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return fraction === undefined ? spaced : `${spaced}.${fraction}`;
}

/** A number too large for units, as in 6.82e27. */
export const power = (value: number, digits: number): string => value.toExponential(digits).replace("+", "");

/** Decimal text where there is room for it in so many characters, else rounded to four digits with a unit. */
export function compact(decimal: string, locale: string, room: number): string {
  const exact = grouped(decimal);
  if (exact.length <= room) return exact;
  const format = new Intl.NumberFormat(locale, { notation: "compact", maximumSignificantDigits: 4 });
  const short = format.format(Number(decimal));
  return short.length <= Math.max(10, room) + 2 ? short : power(Number(decimal), 2);
}
