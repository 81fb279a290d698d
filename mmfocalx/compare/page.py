"""The template of ``report.html``."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison of {{ finished }} runs</title>
<style>
:root { --ink: #1f2429; --soft: #5a636e; --line: #dfe3e8; --paper: #fff; --tint: #f5f7f9;
  --good: #0b7a4b; --bad: #b42318; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
ul { padding-left: 1.2em; }
li { overflow-wrap: anywhere; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 1.3rem; margin: 48px 0 4px; padding-top: 16px; border-top: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 32px 0 8px; }
p { margin: 6px 0; max-width: 85ch; }
.soft, figcaption, .note { color: var(--soft); font-size: .9rem; }
code { font: .85em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { background: var(--tint); padding: 10px 12px; border-radius: 6px; overflow-x: auto;
  white-space: pre-wrap; }
.wide { overflow-x: auto; margin: 10px 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tr:last-child > td, tr:last-child > th { border-bottom: 0; }
thead th { background: var(--tint); font-weight: 600; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper);
  font-weight: 500; }
thead th:first-child { background: var(--tint); }
td.text, th.text { text-align: left; white-space: normal; min-width: 22ch; }
.key { display: inline-block; width: .75em; height: .75em; border-radius: 2px;
  margin-right: .5em; }
.best { font-weight: 700; }
.better { color: var(--good); } .worse, .failed { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 28px 32px; margin-top: 12px; }
figure { margin: 0; min-width: 0; }
figure > img { width: 100%; height: auto; display: block; }
figure h4 { margin: 0 0 2px; font-size: .98rem; }
figcaption { margin-bottom: 6px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; margin: 10px 0 22px;
  max-width: 880px; }
.pair img { width: 100%; height: auto; display: block; border-radius: 4px; }
.pair > div { font-size: .88rem; min-width: 0; }
.pair > .title { grid-column: 1 / -1; color: var(--soft); overflow-wrap: anywhere; }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
nav a { margin-right: 14px; }
@media (max-width: 600px) { main { padding: 16px 14px 48px; } th, td { padding: 5px 9px; }
  h1 { font-size: 1.4rem; } .pair { grid-template-columns: 1fr; } }
@media print { .charts, figure, .pair { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<h1>Comparison of {{ groups | map(attribute='entries') | map('length') | sum }} configs</h1>
<p>{{ finished }} of {{ planned }} runs finished, tested on the <b>{{ split }}</b> split;
seeds {{ seeds | join(', ') }}. AP, calibration errors and oLRP in percent; ± is the standard
deviation over seeds.</p>
{% if groups | length > 1 %}
<nav>{% for group in groups %}<a href="#group{{ loop.index }}">{{ group.detector }}, {{
group.num_images }} images</a>{% endfor %}</nav>
{% endif %}

{% if failed %}
<h2 class="failed">Failed runs</h2>
<ul>
{% for one in failed %}
<li>{{ one.name }}, seed {{ one.seed }}: <code>{{ one.reason }}</code></li>
{% endfor %}
</ul>
{% endif %}

{% for group in groups %}
<h2 id="group{{ loop.index }}">{{ group.detector }}</h2>
<p class="soft">{{ group.num_images }} images of <code>{{ group.annotations }}</code>.
Baseline: <b>{{ group.baseline }}</b>, the first config given of this detector.</p>

<h3>Was it better?</h3>
<div class="wide"><table>
<thead><tr><th>config</th><th>seeds</th>{% for kind in ap_kinds %}<th>{{ kind }}</th>{% endfor %}
<th>training</th><th>memory</th></tr></thead>
{% for one in group.entries %}
<tr><th><span class="key" style="background:{{ one.colour }}"></span>{{ one.label }}</th>
<td>{{ one.seeds | length }}</td>
{% for kind in ap_kinds %}<td{% if group.best[kind] == one.name %} class="best"{% endif
%}>{{ one.ap[kind] | spread }}</td>{% endfor %}
<td>{{ one.seconds | duration }}</td><td>{{ one.memory | number(0) }} MB</td></tr>
{% endfor %}
</table></div>

{% if group.entries | length > 1 %}
<h3>Am I sure?</h3>
<p class="soft">Percentage points more than {{ group.baseline }}, with two 95 % intervals: over
<b>images</b> (paired bootstrap, {{ 1000 }} draws, mean of the seeds: would other images say the
same?) and over <b>seeds</b> (Welch's t: would other trainings?). A verdict needs both on one side
of zero.</p>
<div class="wide"><table>
<thead><tr><th>config</th><th></th><th>difference</th><th>over images</th><th>over seeds</th>
<th class="text">verdict</th></tr></thead>
{% for one in group.entries if one.differences %}
{% for kind in ap_kinds %}
{% set pair = one.differences[kind] %}
<tr><th>{% if loop.first %}<span class="key" style="background:{{ one.colour }}"></span>{{ one.label
}}{% endif %}</th><td>{{ kind }}</td><td>{{ pair[0].difference | signed }}</td>
<td>{{ pair[0].low | signed }} to {{ pair[0].high | signed }}</td>
<td>{% if pair[1].low == pair[1].low %}{{ pair[1].low | signed }} to {{ pair[1].high | signed }}{%
else %}–{% endif %}</td><td class="text">{{ pair | verdict }}</td></tr>
{% endfor %}
{% endfor %}
</table></div>
{% endif %}

<h3>What are the scores worth?</h3>
{% for keys in quality_tables %}
<div class="wide"><table>
<thead><tr><th>config</th>{% for key in keys %}<th title="{{ quality[key][1] }}">{{
quality[key][0] }} {{ '↑' if quality[key][2] else '↓' }}</th>{% endfor %}</tr></thead>
{% for one in group.entries %}
<tr><th><span class="key" style="background:{{ one.colour }}"></span>{{ one.label }}</th>
{% for key in keys %}<td>{{ one.quality[key] | spread(2 if quality[key][3] == 1 else 1) }}</td>{%
endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}

<h3>Where?</h3>
<div class="charts">
{% for title, explanation, source in group.charts %}
<figure><h4>{{ title }}</h4><figcaption>{{ explanation }}</figcaption>
<img src="{{ source }}" alt="{{ title }}: {{ explanation }}"></figure>
{% endfor %}
</div>

{% if group.pictures and group.pictures.pairs %}
<h3>Images where they differ most</h3>
<p class="soft">{{ group.pictures.labels[0] }} and {{ group.pictures.labels[1] }}, seed {{
group.pictures.seed }}, detections above the optimal LRP threshold of their class. Green: right
(IoU 0.5 or more), red: wrong, yellow: missed. LRP: error on this image, smaller is better.</p>
{% for picture in group.pictures.pairs %}
<div class="pair"><div class="title">{{ picture.file_name }}</div>
{% for k in (0, 1) %}
<div><img src="{{ picture.sources[k] }}" alt="{{ group.pictures.labels[k] }} on {{ picture.file_name
}}">{{ group.pictures.labels[k] }}: LRP {{ picture.errors[k] | number(2) }}</div>
{% endfor %}
</div>
{% endfor %}
{% endif %}

<details><summary>AP of each class</summary>
<div class="wide"><table>
<thead><tr><th>class</th><th>objects in {{ group.of_what }}</th>{% for one in group.entries
%}<th>{{ one.label }}</th>{% endfor %}</tr></thead>
{% for name in group.classes %}
<tr><th>{{ name }}</th><td>{{ group.counts.get(name, 0) }}</td>{% for one in group.entries %}<td>{{
(one.class_ap[name] | spread) if name in one.class_ap else '–' }}</td>{% endfor %}</tr>
{% endfor %}
</table></div></details>

<details><summary>Optimal score threshold of each class</summary>
<p class="note">Keeping what scores at least this much gives the smallest LRP error.</p>
<div class="wide"><table>
<thead><tr><th>class</th>{% for one in group.entries %}<th>{{ one.label }}</th>{% endfor
%}</tr></thead>
{% for name in group.classes %}
<tr><th>{{ name }}</th>{% for one in group.entries %}<td>{{ one.thresholds[name] | spread(2)
}}</td>{% endfor %}</tr>
{% endfor %}
</table></div></details>

<details><summary>Every run</summary>
<div class="wide"><table>
<thead><tr><th>config</th><th>seed</th>{% for kind in ap_kinds %}<th>{{ kind }}</th>{% endfor
%}{% for key in ('spearman', 'LaECE0', 'D-ECE', 'oLRP') %}<th>{{ quality[key][0] }}</th>{% endfor
%}<th>training</th><th>iterations</th><th>memory</th></tr></thead>
{% for one in group.entries %}{% for run in one.runs %}
<tr><th>{{ one.label }}</th><td>{{ run.seed }}</td>{% for kind in ap_kinds %}<td>{{
run.ap[kind] | number }}</td>{% endfor %}<td>{{ run.quality['spearman'] | number(2) }}</td>{% for
key in ('LaECE0', 'D-ECE', 'oLRP') %}<td>{{ run.quality[key] | number }}</td>{% endfor
%}<td>{{ run.seconds | duration }}</td><td>{{ run.iterations or '–' }}</td><td>{{
run.memory | number(0) }} MB</td></tr>
{% endfor %}{% endfor %}
</table></div></details>
{% endfor %}

<h2>How this was made</h2>
<pre><code>{{ command }}</code></pre>
<p class="note">{% for name, version in versions.items() %}{{ name }} {{ version }}{{
', ' if not loop.last }}{% endfor %}. Evaluation, TIDE and D-ECE: hotcoco.</p>
<dl class="note">{% for title, meaning, more, _ in quality.values() %}<dt><b>{{ title }}</b> ({{
'more' if more else 'less' }} is better)</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>
</main>
</body>
</html>
"""
