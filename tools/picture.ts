/**
 * Draws what a command printed as an SVG of a terminal: `FORCE_COLOR=1 npm start 2>&1 | node tools/picture.ts >docs/start.svg`.
 * Understands bold, dim and the eight colours; long lines are cut.
 */
const COLUMNS = 118;
const LINE = 17;
const CHAR = 7.8;
const COLOURS: Readonly<Record<string, string>> = {
  31: "#ff7b72",
  32: "#7ee787",
  33: "#e3b341",
  36: "#79c0ff",
};

function escapeXml(text: string): string {
  return text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c] ?? c);
}

/** One line of terminal output as tspans. */
function drawLine(line: string): string {
  // A line that rewrote itself shows its last state.
  const last = line.split("\r").filter(Boolean).at(-1) ?? "";
  let style = "";
  let column = 0;
  let out = "";
  for (const part of last.split(/(\x1b\[[0-9;]*[A-Za-z])/)) {
    const code = /^\x1b\[([0-9;]*)m$/.exec(part)?.[1];
    if (code !== undefined) {
      if (code === "" || code === "0") style = "";
      else if (code === "1") style = ' font-weight="bold"';
      else if (code === "2") style = ' fill-opacity="0.55"';
      else style = ` fill="${COLOURS[code] ?? "#e6edf3"}"`;
    } else if (!part.startsWith("\x1b") && part !== "") {
      const text = part.slice(0, Math.max(0, COLUMNS - column));
      column += text.length;
      if (text !== "") out += `<tspan${style}>${escapeXml(text)}</tspan>`;
    }
  }
  return out;
}

let input = "";
for await (const chunk of process.stdin) input += (chunk as Buffer).toString();
const lines = input.replace(/\n+$/, "").split("\n").map(drawLine);
const width = Math.ceil(COLUMNS * CHAR + 32);
const height = lines.length * LINE + 32;
const text = lines
  .map((line, i) => `<text x="16" y="${28 + i * LINE}" xml:space="preserve">${line}</text>`)
  .filter((line) => !line.endsWith('"></text>'))
  .join("\n");
process.stdout.write(
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="13" fill="#e6edf3">
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
${text}
</svg>
`,
);
