"""The report's style sheet: light, narrow columns of text, wide figures, tables that scroll on
small screens.
"""

STYLE = """
:root { --ink: #1f2933; --quiet: #5b6773; --line: #dfe4ea; --wash: #f5f7fa; --accent: #0072b2; --warn: #fff7e6; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
.layout { display: grid; grid-template-columns: 190px minmax(0, 1fr); gap: 2.2rem; max-width: 1220px; margin: 0 auto;
  padding: 0 1.4rem 4rem; }
header { grid-column: 1 / -1; padding: 2.2rem 0 1.2rem; border-bottom: 1px solid var(--line); }
h1 { margin: 0 0 .3rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 2.8rem 0 .6rem; padding-top: .4rem; font-size: 1.35rem; line-height: 1.25; }
main > section:first-child h2 { margin-top: 0; }
h3 { margin: 1.9rem 0 .3rem; font-size: 1.02rem; }
p { max-width: 76ch; margin: .5rem 0 .8rem; }
.lead { font-size: 1.02rem; max-width: 90ch; }
.quiet, figcaption { color: var(--quiet); }
nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow: auto; padding: .3rem 0 1rem;
  font-size: .88rem; line-height: 1.35; }
nav strong { display: block; margin-bottom: .35rem; font-size: .78rem; text-transform: uppercase; letter-spacing: .05em;
  color: var(--quiet); }
nav a { display: block; padding: .26rem 0 .26rem .7rem; border-left: 2px solid var(--line); color: var(--ink);
  text-decoration: none; }
nav a:hover { border-color: var(--accent); color: var(--accent); }
a { color: var(--accent); }
figure { margin: 1.1rem 0 2.2rem; }
.plot { overflow-x: auto; }
.plot img { display: block; width: 100%; height: auto; }
figcaption { max-width: 92ch; margin-top: .4rem; font-size: .875rem; line-height: 1.5; }
figcaption code { font-size: .8rem; overflow-wrap: anywhere; }
.note { max-width: 92ch; margin: .5rem 0; padding: .45rem .8rem; border-left: 3px solid #e69f00;
  background: var(--warn); color: var(--ink); font-size: .875rem; line-height: 1.45; }
ul.note { padding-left: 1.8rem; }
.table { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .75rem .28rem .2rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; border-bottom: 1.5px solid #b9c2cc; vertical-align: bottom;
  white-space: normal; }
th.text, td.text { text-align: left; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; max-width: 26rem; }
tr.first td { border-top: 2px solid #b9c2cc; }
td.head { font-weight: 600; }
.swatch { display: inline-block; width: .72em; height: .72em; margin-right: .45em; border-radius: 2px; }
.facts { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: .9rem 0 .2rem; padding: 0; list-style: none;
  font-size: .9rem; }
.facts b { display: block; font-size: 1.25rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.facts span { color: var(--quiet); }
details { margin: .5rem 0; border: 1px solid var(--line); border-radius: 4px; }
summary { padding: .4rem .8rem; cursor: pointer; font-size: .9rem; overflow-wrap: anywhere; }
details > :not(summary) { margin: 0 .8rem .8rem; }
pre { overflow-x: auto; padding: .7rem .9rem; background: var(--wash); border-radius: 4px; font-size: .8rem;
  line-height: 1.45; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.films { display: flex; flex-wrap: wrap; gap: 1rem; margin: .3rem 0 1.4rem; }
.films figure { width: 200px; margin: 0; }
.films video { display: block; width: 100%; border-radius: 4px; background: var(--wash); }
.films figcaption { font-size: .8rem; line-height: 1.35; }
dt { margin-top: .7rem; font-weight: 600; }
dd { margin: .1rem 0 0; max-width: 80ch; }
@media (max-width: 860px) {
  .layout { display: block; padding: 0 1rem 3rem; }
  nav { position: static; max-height: none; margin: 1rem 0; }
  .plot img { min-width: 620px; }
}
@media print {
  .layout { display: block; }
  nav { display: none; }
  figure, tr { break-inside: avoid; }
}
"""
