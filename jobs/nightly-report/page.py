"""The page: one self-contained HTML file that reads well on a phone, by day and by night."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import charts
from charts import day_name
from compare import Comparison
from report_data import Month, Report, Tile

NARROW_DAYS = 45
STYLE = """
:root { color-scheme: light dark; --page:#f3f6f7; --card:#ffffff; --ink:#15232d; --soft:#566975; --hair:#dbe3e7;
  --seen:#e9eef1; --normal:#cfdbe1; --bar:#5d7382; --warm:#c8501e; --cool:#1c74ad; --wet:#1c74ad; --dry:#996404;
  --rain:#1c74ad; --year:#a9b8c1; }
@media (prefers-color-scheme: dark) { :root { --page:#0e1519; --card:#162026; --ink:#e6eef2; --soft:#93a7b3;
  --hair:#27343c; --seen:#212e36; --normal:#354954; --bar:#a9bdc9; --warm:#ff9263; --cool:#62b8ef; --wet:#62b8ef;
  --dry:#e3b04b; --rain:#62b8ef; --year:#556975; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--page); color:var(--ink); font:16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Noto Sans", sans-serif; font-variant-numeric:tabular-nums; -webkit-text-size-adjust:100%; }
main { max-width:860px; margin:0 auto; padding:40px 20px 56px; }
.kicker { margin:0 0 10px; color:var(--soft); font-size:14px; }
h1 { margin:0 0 12px; font-size:clamp(25px, 5.4vw, 38px); line-height:1.16; letter-spacing:-.018em; font-weight:650;
  text-wrap:balance; }
h2 { margin:0; font-size:19px; line-height:1.3; letter-spacing:-.008em; font-weight:650; }
.lead { margin:0; max-width:80ch; color:var(--soft); }
section { margin-top:36px; }
.note { margin:4px 0 12px; color:var(--soft); font-size:14px; max-width:80ch; text-wrap:pretty; }
.card { background:var(--card); border:1px solid var(--hair); border-radius:12px; padding:14px 12px 8px; }
.tiles { display:grid; grid-template-columns:repeat(4, 1fr); gap:1px; margin:30px 0 8px; background:var(--hair);
  border:1px solid var(--hair); border-radius:12px; overflow:hidden; }
.tile { background:var(--card); padding:14px 16px 14px; }
.tile dt { color:var(--soft); font-size:14px; }
.tile dd { margin:0; }
.value { font-size:27px; line-height:1.25; font-weight:650; letter-spacing:-.015em; white-space:nowrap; }
.value small { font-size:15px; font-weight:500; color:var(--soft); letter-spacing:0; }
.against { font-size:14px; color:var(--soft); }
svg { display:block; width:100%; height:auto; }
svg text { font:12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill:var(--soft); }
.narrow { display:none; } .aside { margin:6px 4px 0; font-size:13px; }
.interval { margin-top:8px; max-width:150px; }
.seen { fill:var(--seen); } .normal { fill:var(--normal); }
.grid { stroke:var(--hair); stroke-width:1; opacity:.75; } .month, .axis { stroke:var(--hair); stroke-width:1; }
.axis { stroke:var(--soft); }
.bar.plain { fill:var(--bar); } .bar.warm, .mark.warm { fill:var(--warm); } .bar.cool, .mark.cool { fill:var(--cool); }
.line { fill:none; stroke-linejoin:round; } .line.year { stroke:var(--year); stroke-width:1.6; }
.line.now { stroke:var(--rain); stroke-width:3; }
svg .end.now { fill:var(--rain); font-weight:650; }
.reach { stroke:var(--year); stroke-width:3; stroke-linecap:round; } .mark.plain { fill:var(--soft); }
.mark.strong { fill:var(--ink); }
.reach.warm { stroke:var(--warm); } .reach.cool { stroke:var(--cool); } .reach.strong { stroke:var(--ink); }
.reach.wet { stroke:var(--wet); } .reach.dry { stroke:var(--dry); } .mark.wet { fill:var(--wet); }
.mark.dry { fill:var(--dry); }
.legend { display:flex; flex-wrap:wrap; gap:4px 18px; margin:8px 4px 6px; padding:0; list-style:none; font-size:13px;
  color:var(--soft); }
.legend i { display:inline-block; width:12px; height:12px; border-radius:3px; margin-right:6px; vertical-align:-1px; }
.legend i.dot { width:7px; height:7px; border-radius:50%; vertical-align:1px; }
ul.days { margin:12px 0 0; padding:0; list-style:none; border-top:1px solid var(--hair); }
ul.days li { display:grid; grid-template-columns:13em 1fr; gap:0 16px; padding:9px 0;
  border-bottom:1px solid var(--hair); }
ul.days span { color:var(--soft); }
table { width:100%; border-collapse:collapse; font-size:15px; }
th { font-weight:500; color:var(--soft); font-size:13px; text-align:right; padding:6px 10px; vertical-align:bottom; }
td { text-align:right; padding:7px 10px; border-top:1px solid var(--hair); white-space:nowrap; }
th:first-child, td:first-child { text-align:left; padding-left:4px; }
td.clear { font-weight:650; }
td.warm { color:var(--warm); } td.cool { color:var(--cool); }
td.wet { color:var(--wet); } td.dry { color:var(--dry); }
footer { margin-top:40px; padding-top:16px; border-top:1px solid var(--hair); color:var(--soft); font-size:13.5px; }
footer p { margin:0 0 8px; max-width:76ch; }
@media (max-width: 620px) {
  main { padding:24px 16px 40px; } .tiles { grid-template-columns:1fr 1fr; } .tile { padding:12px 14px; }
  .value { font-size:23px; } .wide { display:none; } .narrow { display:block; } .card { padding:10px 6px 4px; }
  ul.days li { grid-template-columns:1fr; } table { font-size:14px; } td, th { padding:6px 5px; }
}
@media print { body { background:none; } section { break-inside:avoid; } }
"""


def render(report: Report) -> str:
    period, years = report.period, _years(report)
    first, last = period.days[0].date, period.days[-1].date
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Seattle weather, {day_name(report.scheduled)} {report.scheduled.year}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<p class="kicker">Seattle weather · {day_name(report.scheduled)} {report.scheduled.year}</p>
<h1>{_text(report.headline)}</h1>
<p class="lead">{len(period.days)} days, {day_name(first)} {first.year} to {day_name(last)} {last.year},
against the same days of {years}.</p>
<dl class="tiles">{"".join(_tile(tile) for tile in report.tiles)}</dl>
<p class="note">The upright is normal, the dot what was measured, the bar its 95% interval.
In colour: hardly chance.</p>

<section>
<h2>Each day against its normal</h2>
<p class="note">A bar runs from the day’s low to its high. It is coloured when even the day’s mean lies outside
the normal range.</p>
<div class="card">
<div class="wide">{charts.temperature_chart(period.days, report.normals, width=816, height=310)}</div>
<div class="narrow">{_narrow_temperatures(report)}</div>
<ul class="legend"><li><i style="background:var(--normal)"></i>normal low to high</li>
<li><i style="background:var(--seen)"></i>seen in earlier years</li>
<li><i style="background:var(--warm)"></i>warm day</li><li><i style="background:var(--cool)"></i>cold day</li>
<li><i class="dot" style="background:var(--soft)"></i>beyond all earlier years</li></ul>
</div>
</section>

<section>
<h2>Rain, added up</h2>
<p class="note">Millimetres since {day_name(first)}.</p>
<div class="card">
<div class="wide">{charts.rain_chart(period, width=816, height=270)}</div>
<div class="narrow">{charts.rain_chart(period, width=350, height=230)}</div>
</div>
</section>

<section>
<h2>Days that stand out</h2>
<p class="note">“Earlier years” means their days within a week of the date.</p>
<ul class="days">{"".join(f"<li><span>{_text(when)}</span>{_text(what)}</li>" for when, what in report.notable)}</ul>
</section>

<section>
<h2>Month by month</h2>
<p class="note">Differences from the same days of the earlier years on record. In colour where the 95% interval leaves
out zero.</p>
<div class="card">{_months(report.months)}</div>
</section>

<footer>
<p>The measurements end in {report.record_end.year}, so {day_name(report.scheduled)} {report.scheduled.year} is shown as
it was in {last.year}, with the data up to the evening before. “Normal” is the mean of {years}: few
years, hence the wide intervals. They come from a bootstrap that draws years and whole weeks within them
({report.draws:,} draws), because weather comes in spells.</p>
<p>Daily measurements: NOAA, public domain, as collected in vega-datasets.{_origin(report)}</p>
</footer>
</main>
</body>
</html>
"""


def _tile(tile: Tile) -> str:
    comparison = tile.comparison
    tone = _tone(comparison, *tile.tones)
    return (
        f'<div class="tile"><dt>{escape(tile.name)}</dt>'
        f'<dd class="value">{comparison.now:.{tile.digits}f}&thinsp;<small>{escape(tile.unit)}</small></dd>'
        f'<dd class="against">{signed(comparison.difference, tile.digits)} from normal</dd>'
        f"<dd>{charts.interval_mark(comparison, tile.reach, tone or 'plain')}</dd></div>"
    )


def _narrow_temperatures(report: Report) -> str:
    days, normals = report.period.days[-NARROW_DAYS:], report.normals[-NARROW_DAYS:]
    chart = charts.temperature_chart(days, normals, width=350, height=270)
    return f'{chart}<p class="note aside">The last {NARROW_DAYS} days; a wider screen shows all.</p>'


def _months(months: Sequence[Month]) -> str:
    rows = "".join(
        f"<tr><td>{escape(month.name)}</td>{_cells(month.temperature, 1, 'warm', 'cool')}"
        f"{_cells(month.rain, 0, 'wet', 'dry')}</tr>"
        for month in reversed(months)
    )
    return (
        "<table><thead><tr><th>Month</th><th>Mean, °C</th><th>vs normal</th><th>Rain, mm</th><th>vs normal</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _cells(found: Comparison, digits: int, above: str, below: str) -> str:
    tone = _tone(found, above, below)
    style = f' class="clear {tone}"' if tone else ""
    return f"<td>{found.now:.{digits}f}</td><td{style}>{signed(found.difference, digits)}</td>"


def _tone(found: Comparison, above: str, below: str) -> str:
    if not found.is_clear:
        return ""
    return above if found.difference > 0 else below


def _text(text: str) -> str:
    """Escape, write a true minus, and keep a number and its unit on one line."""
    return (
        re.sub(r"-(?=\d)", "−", escape(text))
        .replace(" °C", "&nbsp;°C")
        .replace(" mm", "&nbsp;mm")
        .replace(" m/s", "&nbsp;m/s")
    )


def _years(report: Report) -> str:
    years = sorted(report.period.earlier)
    # Word joiners keep the pair on one line.
    return f"{years[0]}\u2060–\u2060{years[-1]}" if len(years) > 2 else " and ".join(str(year) for year in years)


def _origin(report: Report) -> str:
    return f" Made by run {escape(report.run)}." if report.run else ""


def signed(number: float, digits: int) -> str:
    """Write a number with its sign, a true minus, and no minus before zero."""
    text = f"{abs(number):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if number > 0 else "−") + text
