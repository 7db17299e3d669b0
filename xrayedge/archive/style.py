"""The style sheet of a report: light and dark, from a phone's width on."""

STYLE = """
:root{color-scheme:light dark;--page:#fff;--text:#1b1f24;--soft:#59636e;--line:#d1d9e0;
--tile:#f6f8fa;--good:#2da44e;--odd:#bf8700;--bad:#cf222e;--reference:#1b1f24;--plain:#4a7db5;
--c0:#d1495b;--c1:#2a9d8f;--c2:#e08e1b;--c3:#5e60ce;--c4:#8d6e63;--c5:#3a7ca5}
@media (prefers-color-scheme:dark){:root{--page:#0d1117;--text:#e6edf3;--soft:#9198a1;
--line:#3d444d;--tile:#161b22;--good:#3fb950;--odd:#d29922;--bad:#ff7b72;--reference:#e6edf3;--plain:#6ea3dc;
--c0:#f07f8e;--c1:#4fc3b4;--c2:#f0b05a;--c3:#9a9cf0;--c4:#bfa094;--c5:#6fb1d8}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,sans-serif;
overflow-wrap:anywhere}
main{max-width:72em;margin:0 auto;padding:1em 16px 3em}
h1{font-size:1.6em;line-height:1.2;margin:.6em 0 .3em}
h2{font-size:1.2em;margin:2em 0 .4em;padding-top:.6em;border-top:1px solid var(--line)}
h3{font-size:1em;margin:1.4em 0 .3em}
p{margin:.4em 0 .8em;max-width:48em}
small,.ends,figcaption{color:var(--soft);font-size:13px}
.warn{border-left:4px solid var(--odd);padding:.2em .8em;background:var(--tile)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5em,1fr));gap:10px;margin:1em 0}
.tiles div{background:var(--tile);border:1px solid var(--line);border-radius:8px;padding:.6em .8em}
.tiles b{display:block;font-size:1.5em;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles span,.tiles small{display:block}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(14em,1fr));gap:16px}
figure{margin:.4em 0}
figure svg{display:block;width:100%;height:84px}
svg.area{height:120px}
svg.small{display:block;width:82px;height:20px}
.reference{fill:none;stroke:var(--reference);stroke-width:1.5;vector-effect:non-scaling-stroke}
.axis{fill:none;stroke:var(--line);vector-effect:non-scaling-stroke}
.ends{display:flex;justify-content:space-between}
.split{display:flex;height:14px;border-radius:7px;overflow:hidden;margin:1em 0;
background:var(--line)}
.table{overflow-x:auto;margin:.6em 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.3em .9em .3em 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;font-size:14px;white-space:nowrap}
td{min-width:4.5em;overflow-wrap:break-word}
td:first-child{min-width:8em}
.long td:last-child{min-width:15em}
td i{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.5em}
.bad{color:var(--bad)}
summary{cursor:pointer;padding:.4em 0}
@media print{.table{overflow:visible}}
"""
