"""Style and script of the page."""

STYLE = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5d6875;--rule:#dfe3e8;--head:#f0f2f5;--best:#0b63c4;
--good:#14804f;--bad:#cc3d54;--warn-bg:#fff6e0;--warn-rule:#e3b341;--warn-ink:#5c4508;
--c0:#0b63c4;--c1:#cc3d54;--c2:#14804f;--c3:#8044b8;--c4:#b86a00;--c5:#007a86;--c6:#8f5c3f;--c7:#5b6472;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2029;--ink:#e4e8ee;--soft:#9aa6b4;--rule:#313a46;
--head:#222a35;--best:#7cb8ff;--good:#5fd39b;--bad:#ff8a9a;--warn-bg:#33290f;--warn-rule:#8a6d1f;--warn-ink:#f3dfa5;
--c0:#6cb2ff;--c1:#ff8496;--c2:#5fd39b;--c3:#c79bf2;--c4:#ffb454;--c5:#4dd0dc;--c6:#d9a98c;--c7:#a8b2bf}}
*{box-sizing:border-box}@media (prefers-reduced-motion:no-preference){html{scroll-behavior:smooth}}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0 0 2px}
h2{font-size:20px;margin:38px 0 10px;padding-top:8px}h3{font-size:15.5px;margin:22px 0 6px}
p{margin:6px 0;max-width:95ch}.soft,.note{color:var(--soft)}.note{font-size:13px}
nav{display:flex;flex-wrap:wrap;gap:6px 16px;margin:14px 0 4px;font-size:14px}a{color:var(--best);text-decoration:none}
a:hover{text-decoration:underline}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 18px;margin:12px 0}
.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 18px;margin:0;font-size:14px}.facts dt{color:var(--soft)}
.facts dd{margin:0;overflow-wrap:anywhere}.flags{background:var(--warn-bg);border-color:var(--warn-rule);color:var(--warn-ink)}
.flags h2{margin:0;padding:0;font-size:16px}
.flags ul{margin:6px 0 0;padding-left:20px}.flags li{overflow-wrap:anywhere;white-space:pre-line}
.scroll{overflow-x:auto;border:1px solid var(--rule);border-radius:10px;background:var(--card);margin:8px 0}
table{border-collapse:separate;border-spacing:0;font-size:13px;font-variant-numeric:tabular-nums;min-width:100%}
th,td{padding:6px 11px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
tbody tr:last-child>*{border-bottom:0}thead th,thead td{background:var(--head);font-weight:600}
th button{all:unset;cursor:pointer;position:relative}th button::after{content:"↕";position:absolute;left:100%;font-size:10px;opacity:.5}
th[aria-sort] button::after{opacity:1}th[aria-sort=ascending] button::after{content:"▴"}th[aria-sort=descending] button::after{content:"▾"}
button:focus-visible,figure:focus-visible{outline:2px solid var(--best);outline-offset:2px}
th.text,td.text{text-align:left}tbody th{text-align:left;font-weight:600}tbody tr:hover>*{background:var(--head)}
thead th.group{text-align:center}td.wide{white-space:normal;min-width:22em;text-align:left;overflow-wrap:anywhere}
tr>th:first-child{position:sticky;left:0;background:var(--card);z-index:1}thead tr>th:first-child{background:var(--head)}
.first{border-left:1px solid var(--rule)}td.best b{color:var(--best)}td small{color:var(--soft)}
.better{color:var(--good)}.worse{color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:12px}
figure{margin:0 0 12px;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:10px 12px;overflow-x:auto}
.chart{height:auto;display:block}.charts .chart{width:100%;min-width:480px}
@media (min-width:700px){.chart{max-width:100%}}.chart [id$=paper]{display:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:8px 0;padding:0;list-style:none;font-size:13px}
.legend button{all:unset;cursor:pointer;overflow-wrap:anywhere;display:flex;align-items:center;gap:7px}
.key{flex:none}.key line{stroke-width:3}.legend .off{opacity:.35}.hidden{display:none}
"""

# A click on a column's name sorts its table: numbers from the highest, texts from A, again the other way; a cell without a value is last.
# A click on a name in a legend hides its curves in that section, another one brings them back.
SCRIPT = """
document.querySelectorAll('thead tr:last-child th').forEach(function(head){
var button=document.createElement('button'),text=head.classList.contains('text'),body=head.closest('table').tBodies[0];
button.append(...head.childNodes);head.append(button);button.addEventListener('click',function(){
var up=head.ariaSort?head.ariaSort!=='ascending':text,sign=up?1:-1;
head.parentNode.querySelectorAll('[aria-sort]').forEach(function(other){other.removeAttribute('aria-sort')});
head.ariaSort=up?'ascending':'descending';
function value(row){var cell=row.cells[head.cellIndex];return text?cell.textContent:parseFloat(cell.dataset.value)}
body.append(...Array.from(body.rows).sort(function(one,other){var a=value(one),b=value(other);
return text?sign*a.localeCompare(b,'en',{numeric:true}):isNaN(a)-isNaN(b)||sign*(a-b)||0}))})});
document.querySelectorAll('.legend button').forEach(function(button){button.addEventListener('click',function(){
var off=button.classList.toggle('off');button.setAttribute('aria-pressed',String(!off));
button.closest('section').querySelectorAll('.curve,.band').forEach(function(curve){
if(curve.dataset.row===button.dataset.row)curve.classList.toggle('hidden',off)})})});
"""
