// Values of foreign files in messages.

const MAX_TEXT = 80;
const MAX_ITEMS = 8;

/**
 * Anything of a foreign file, short enough for a message. Never descends: the value may be a million long and nested a
 * million deep.
 */
export function quote(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") return quoteText(value, MAX_TEXT);
  if (typeof value !== "object" || value === null) return String(value);
  if (!Array.isArray(value)) return "an object";
  const items = value.slice(0, MAX_ITEMS).map(quoteItem);
  return `[${items.join(", ")}${value.length > MAX_ITEMS ? ", ..." : ""}]`;
}

/** The beginning of a message that others wrote about a foreign file, at most `maxText` characters of it. */
export function shorten(text: string, maxText = MAX_TEXT): string {
  return text.length > maxText ? `${text.slice(0, maxText - 3)}...` : text;
}

function quoteItem(item: unknown): string {
  if (typeof item === "string") return quoteText(item, MAX_TEXT / MAX_ITEMS);
  return typeof item === "object" && item !== null ? "..." : String(item);
}

function quoteText(text: string, maxText: number): string {
  return JSON.stringify(shorten(text, maxText));
}
