"""The page's style: one column of figures on a phone, dense tables on a desk, black on white on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  --paper: #fdfdfb; --ink: #1d2126; --muted: #5c6670; --line: #dcdfe0; --soft: #f2f3f0; --accent: #33618f;
  --warn: #9a4a12; --warn-soft: #fbeee2;
  --series-0: #33618f; --series-1: #e0a13c; --series-2: #4f9e92; --series-3: #b0536b; --series-4: #8577b4;
  --series-5: #b4babd;
  --heat-0: #eef0ee; --heat-1: #d3e0ea; --heat-2: #a5c2d8; --heat-3: #6f9dc0; --heat-4: #41719d; --heat-5: #1f4468;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --ink: #e4e6e4; --muted: #9aa4ab; --line: #30363b; --soft: #1d2125; --accent: #8db9e0;
    --warn: #e9a877; --warn-soft: #33241a;
    --series-0: #6d9dc9; --series-1: #d9a452; --series-2: #62b3a5; --series-3: #cf7a92; --series-4: #a396d2;
    --series-5: #6d757b;
    --heat-0: #1f2428; --heat-1: #223a50; --heat-2: #2d567a; --heat-3: #3d79a8; --heat-4: #66a3cf; --heat-5: #b4d9f2;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 var(--sans); font-variant-numeric: tabular-nums lining-nums; overflow-wrap: break-word;
}
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; font-weight: 650; letter-spacing: -0.01em; }
h2 {
  margin: 2.75rem 0 0.75rem; padding-top: 0.6rem; border-top: 2px solid var(--ink); font-size: 1.15rem;
  font-weight: 650; line-height: 1.3;
}
p { margin: 0.4rem 0; max-width: 46rem; }
.sub, .note, caption { color: var(--muted); }
.sub { margin: 0.25rem 0 0; }
.note { font-size: 0.87rem; }
.partly { margin-top: 0.75rem; padding: 0.5rem 0.75rem; background: var(--warn-soft); color: var(--warn); }
.figures { display: grid; grid-template-columns: repeat(4, 1fr); margin: 1.5rem 0 0; padding: 0; }
.figures > div { padding: 0.1rem 1rem 0.1rem 1rem; border-left: 1px solid var(--line); }
.figures > div:first-child { padding-left: 0; border-left: 0; }
.figures dt { color: var(--muted); font-size: 0.87rem; }
.figures dd { margin: 0; }
.figures dd.value { font-size: 1.75rem; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em; }
.figures dd.more { font-size: 0.87rem; line-height: 1.4; }
.look { margin: 0; padding: 0; list-style: none; counter-reset: look; display: grid; gap: 0.75rem; }
.look li { counter-increment: look; display: grid; grid-template-columns: 2rem 1fr; max-width: 50rem; }
.look li::before {
  content: counter(look); color: var(--accent); font-size: 1.35rem; line-height: 1.15; font-weight: 650;
}
.look strong { font-weight: 650; }
figure { margin: 1rem 0 0.5rem; }
svg { display: block; width: 100%; height: auto; font-family: var(--sans); }
svg text { font-variant-numeric: tabular-nums; }
.narrow { display: none; }
.legend {
  display: flex; flex-wrap: wrap; gap: 0.15rem 1.1rem; margin: 0.5rem 0 0; padding: 0; list-style: none;
  font-size: 0.87rem;
}
.legend li { display: flex; align-items: baseline; gap: 0.4rem; }
.legend i { flex: none; width: 0.8rem; height: 0.8rem; align-self: center; border-radius: 1px; }
.legend i.mark { height: 2px; background: var(--ink); }
.s0 { background: var(--series-0); } .s1 { background: var(--series-1); } .s2 { background: var(--series-2); }
.s3 { background: var(--series-3); } .s4 { background: var(--series-4); } .s5 { background: var(--series-5); }
.h0 { background: var(--heat-0); } .h1 { background: var(--heat-1); } .h2 { background: var(--heat-2); }
.h3 { background: var(--heat-3); } .h4 { background: var(--heat-4); } .h5 { background: var(--heat-5); }
details { margin: 0.35rem 0; font-size: 0.87rem; }
summary { color: var(--accent); cursor: pointer; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2.5rem; }
table { width: 100%; margin: 1.1rem 0 0.5rem; border-collapse: collapse; font-size: 0.92rem; line-height: 1.35; }
caption { padding: 0 0 0.3rem; text-align: left; font-size: 0.87rem; }
th, td {
  padding: 0.28rem 0 0.28rem 0.9rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
}
th:first-child, td:first-child { padding-left: 0; }
thead th {
  border-bottom-color: var(--muted); color: var(--muted); font-size: 0.82rem; font-weight: 500;
  vertical-align: bottom;
}
tbody th { font-weight: 500; }
.number { text-align: right; }
td.number { white-space: nowrap; }
.name, .text, .remark { overflow-wrap: anywhere; min-width: 5.5rem; }
.name { min-width: 7.5rem; }
.half { max-width: 36rem; }
.sum > * { border-bottom: 0; border-top: 1px solid var(--muted); font-weight: 650; }
.bar {
  position: relative; display: block; min-width: 5rem; height: 0.55rem; margin-top: 0.35rem;
  background: var(--soft);
}
.bar i { display: block; height: 100%; background: var(--accent); }
.bar b { position: absolute; top: -0.2rem; bottom: -0.2rem; width: 2px; background: var(--ink); }
.flag { color: var(--warn); font-weight: 650; }
.quiet { color: var(--muted); }
dl.how { margin: 0.5rem 0; font-size: 0.87rem; max-width: 50rem; }
dl.how dt { margin-top: 0.5rem; font-weight: 650; }
dl.how dd { margin: 0; color: var(--muted); }
footer {
  margin-top: 2.5rem; padding-top: 0.6rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: 0.87rem;
}
@media screen and (max-width: 44rem) {
  body { padding: 1.25rem 1rem 2rem; }
  .wide { display: none; } .narrow { display: block; }
  .pair { grid-template-columns: 1fr; }
  .figures { grid-template-columns: 1fr 1fr; gap: 1rem 0; }
  .figures > div:nth-child(odd) { padding-left: 0; border-left: 0; }
  table { font-size: 0.87rem; }
  .name, .text { min-width: 3.5rem; }
  .bar { min-width: 3rem; }
  .many thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .many, .many tbody, .many tr, .many th, .many td, .many caption { display: block; }
  .many tbody tr {
    display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.3rem 0.75rem; padding: 0.5rem 0;
    border-bottom: 1px solid var(--line);
  }
  .many tbody th, .many tbody td { padding: 0; border: 0; text-align: left; white-space: normal; }
  .many tbody th, .many .remark { grid-column: 1 / -1; }
  .many tbody th { font-weight: 650; }
  .many td::before { content: attr(data-label); display: block; color: var(--muted); font-size: 0.82rem; }
  .many .sum > :empty, .many .sum > :has(> span:empty) { display: none; }
}
@media print {
  @page { margin: 14mm; }
  :root { --paper: #fff; --soft: #eee; }
  html { font-size: 12px; }
  body { max-width: none; padding: 0; font-size: 12px; }
  h2 { break-after: avoid; margin-top: 1.6rem; }
  tr, figure, .look li, .figures, .pair table, .half table { break-inside: avoid; }
  details { display: none; }
  i, b, .bar { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
