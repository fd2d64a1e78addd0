"""The style of the page: light and dark as the reader's system is, readable from 320 pixels on."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2430; --soft: #56606e; --line: #d6dce4; --card: #f5f7fa;
  --sample: #5b6472; --forward: #1664a8; --error: #a8320f; --backward: #7a2e9a; --update: #0f6e4f; --mark: #ffe08a; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #12161c; --ink: #e4e9f0; --soft: #a2adbb; --line: #323b47; --card: #1a2028;
  --sample: #a9b3c1; --forward: #6db3f2; --error: #ff9473; --backward: #d19af0; --update: #5fd0a5; --mark: #6b5200; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 0 0 .5rem; }
p { margin: .5rem 0; }
header p { color: var(--soft); }
a { color: inherit; }
.sample { --tone: var(--sample); } .forward { --tone: var(--forward); } .error { --tone: var(--error); }
.backward { --tone: var(--backward); } .update { --tone: var(--update); }
.order ol { list-style: none; display: flex; gap: 1.4rem; padding: 0; margin: 1.2rem 0; }
.order li { flex: 1; position: relative; }
.order li + li::before { content: "→"; position: absolute; left: -1.2rem; top: 30%; color: var(--soft); }
.order a { display: block; height: 100%; padding: .5rem .6rem; border: 2px solid var(--tone); border-radius: .5rem;
  background: var(--card); text-decoration: none; }
.order b { display: block; color: var(--tone); }
.order span { font-size: .85rem; color: var(--soft); }
.contents { overflow-x: auto; margin: 1rem 0; }
.contents table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.contents th, .contents td { text-align: left; font-weight: normal; padding: .3rem .5rem;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
.contents thead th { color: var(--soft); font-size: .8rem; }
.contents td a { display: inline-block; min-width: 2rem; text-align: center; text-decoration: none;
  border: 1px solid var(--line); border-radius: .3rem; }
.part { border-top: 3px solid var(--tone); margin-top: 2rem; padding-top: .8rem; }
.part > h2 { color: var(--tone); }
details { border: 1px solid var(--line); border-left: 4px solid var(--tone); border-radius: .4rem;
  margin: .8rem 0; padding: .2rem .8rem .5rem; background: var(--card); }
details details { margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .35rem 0; overflow-wrap: anywhere; }
details p { font-size: .95rem; }
.formula { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .88rem;
  color: var(--tone); margin: .8rem 0 .3rem; }
.line { margin: .15rem 0; overflow-x: auto; }
.equation { font: .86rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.equation i { font-style: normal; color: var(--soft); }
.equation b { color: var(--tone); }
.grids { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .8rem; margin: .6rem 0; overflow-x: auto; }
.grid { border-collapse: collapse; font-size: .78rem; font-variant-numeric: tabular-nums; }
.grid caption { color: var(--soft); padding-bottom: .2rem; white-space: nowrap; }
.grid td { border: 1px solid var(--line); background: var(--paper); padding: .2rem .35rem; text-align: right; }
.grid .marked { background: var(--mark); font-weight: 700; }
.pictures { margin: .6rem 0; } .pictures div { display: flex; flex-wrap: wrap; gap: .4rem; }
.pictures img { width: 5.2rem; image-rendering: pixelated; border: 1px solid var(--line); }
.sample .pictures img { width: 9rem; }
.pictures figcaption { font-size: .78rem; color: var(--soft); }
.sign { font-size: 1.3rem; color: var(--soft); }
@media (max-width: 46rem) {
  .order ol { flex-direction: column; gap: 1.2rem; }
  .order li + li::before { content: "↓"; left: 50%; top: -1.3rem; }
  .equation { display: block; overflow-wrap: anywhere; text-indent: -1.2rem; padding-left: 1.2rem; }
  .shape { display: none; }
  .contents th { white-space: normal; overflow-wrap: anywhere; }
  .contents th, .contents td { padding: .3rem .25rem; }
  .contents thead th { font-size: .68rem; overflow-wrap: normal; }
  .contents td a { min-width: 1.8rem; }
  .grid { font-size: .68rem; } .grid td { padding: .15rem .25rem; }
  .grids { gap: .2rem .4rem; }
  details { padding: .2rem .5rem .4rem; } details details { margin-left: -.1rem; }
}
@media print { details { break-inside: avoid; } }
"""
