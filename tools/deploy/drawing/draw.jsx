// Draws the dashboard with Grafana's own front-end packages, over a real Prometheus. Given by the page:
// DASHBOARD (the JSON), PROMETHEUS (its address), FROM, TO (epoch seconds), VALUES (of the variables), ROWS (how many rows
// to draw, opened).
//
// Time series, single values, panels, colours, units, thresholds and mappings are Grafana's code. Heat maps and state
// timelines are panel plug-ins of the server and in none of the packages: those are drawn here, in its colours.
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides, createTheme, dateTime, FieldColorModeId, FieldType, getDisplayProcessor, getValueFormat,
  formattedValueToString, reduceField, ReducerID, standardEditorsRegistry, standardFieldConfigEditorRegistry,
  ThemeContext, toDataFrame,
} from '@grafana/data';
import { BigValue, BigValueColorMode, BigValueGraphMode, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';

const { DASHBOARD, PROMETHEUS, FROM, TO, VALUES, ROWS } = window;
const WIDTH = 1440, CELL = WIDTH / 24, LINE = 36, GAP = 8;
const STEP = Math.max(1, Math.ceil((TO - FROM) / 240));
for (const registry of [standardFieldConfigEditorRegistry, standardEditorsRegistry]) registry.setInit(() => []);
const theme = createTheme({ colors: { mode: 'dark' } });
const colour = (name) => theme.visualization.getColorByName(name);
const range = { from: dateTime(FROM * 1000), to: dateTime(TO * 1000), raw: { from: 'now-1h', to: 'now' } };

const substituted = (text) => Object.entries(VALUES).reduce(
  (done, [name, value]) => done.replaceAll(`\${${name}:regex}`, value).replaceAll(`$${name}`, value), text);
const legend = (format, labels) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');

async function series(target) {
  const query = { query: substituted(target.expr), start: FROM, end: TO, step: STEP };
  const answer = await (await fetch(`${PROMETHEUS}/api/v1/query_range?${new URLSearchParams(query)}`)).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data.result.map(({ metric, values }) => {
    const known = new Map(values.map(([at, value]) => [Math.round((at - FROM) / STEP), Number(value)]));
    const times = Array.from({ length: Math.floor((TO - FROM) / STEP) + 1 }, (_, index) => index);
    return {
      name: legend(target.legendFormat || '', metric), labels: metric,
      times: times.map((index) => (FROM + index * STEP) * 1000),
      values: times.map((index) => { const value = known.get(index); return Number.isNaN(value) ? null : value ?? null; }),
    };
  });
}

function frames(panel, lines) {
  const { defaults, overrides = [] } = panel.fieldConfig;
  const found = lines.map(({ name, times, values }, index) => {
    const config = structuredClone(defaults);
    config.color ??= { mode: FieldColorModeId.PaletteClassic };
    if (config.thresholds) config.thresholds.steps[0].value = -Infinity;
    config.displayNameFromDS = name;
    for (const { matcher, properties } of overrides)
      if (matcher.id === 'byRegexp' && new RegExp(matcher.options.slice(1, -1)).test(name))
        for (const { id, value } of properties) config[id] = value;
    return toDataFrame({ refId: 'A', fields: [
      { name: 'Time', type: FieldType.time, values: times, config: {} },
      { name, type: FieldType.number, values, config, state: { seriesIndex: index, displayName: name } },
    ] });
  });
  const data = applyFieldOverrides({
    data: found, fieldConfig: { defaults: {}, overrides: [] }, replaceVariables: (text) => text, theme, timeZone: 'utc' });
  data.forEach((frame, index) => frame.fields.forEach((field) => {
    field.state = { ...field.state, seriesIndex: index, displayName: field.config.displayNameFromDS };
    if (field.type === FieldType.number) field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  }));
  return data;
}

function Graph({ panel, lines, width, height }) {
  return <TimeSeries frames={frames(panel, lines)} structureRev={1} timeRange={range} timeZone="utc"
    width={width} height={height} legend={panel.options.legend} options={{}} />;
}

function Light({ panel, lines, width, height }) {
  const last = lines[0]?.values.findLast((value) => value !== null);
  if (last === undefined) {
    const value = { text: panel.fieldConfig.defaults.noValue, numeric: NaN, color: colour('text') };
    return <BigValue theme={theme} width={width} height={height} value={value} colorMode={BigValueColorMode.None}
      graphMode={BigValueGraphMode.None} />;
  }
  const field = frames(panel, lines)[0].fields[1];
  const value = reduceField({ field, reducers: [ReducerID.lastNotNull] })[ReducerID.lastNotNull];
  const sparkline = panel.options.graphMode === 'area'
    ? { y: field, x: frames(panel, lines)[0].fields[0], timeRange: range } : undefined;
  return <BigValue theme={theme} width={width} height={height} value={field.display(value)} sparkline={sparkline}
    colorMode={panel.options.colorMode} graphMode={panel.options.graphMode} />;
}

const seconds = getValueFormat('s');
const bound = (text) => (text === '+Inf' ? '∞' : formattedValueToString(seconds(Number(text))));
const BLUES = ['#0b2545', '#10386b', '#155092', '#2171b5', '#4292c6', '#6baed6', '#9ecae1', '#c6dbef', '#eff6ff'];

function Canvas({ width, height, paint }) {
  const drawn = React.useCallback((node) => { if (node) paint(node.getContext('2d'), width, height); }, [width, height]);
  return <canvas ref={drawn} width={width} height={height} style={{ display: 'block' }} />;
}

function hours(context, left, width, height) {
  context.font = `12px ${theme.typography.fontFamily}`;
  context.fillStyle = theme.colors.text.secondary;
  context.textAlign = 'center';
  for (let index = 0; index < 5; index++) {
    const at = new Date((FROM + ((TO - FROM) * (index + 0.5)) / 5) * 1000).toISOString().slice(11, 19);
    context.fillText(at, left + ((width - left) * (index + 0.5)) / 5, height - 4);
  }
}

function Heat({ lines, width, height }) {
  const upper = ({ labels }) => (labels.le === '+Inf' ? Infinity : Number(labels.le));
  const rows = [...lines].sort((a, b) => upper(a) - upper(b));
  const counts = rows.map((row, index) => row.values.map((value, at) => (value ?? 0) - (index ? rows[index - 1].values[at] ?? 0 : 0)));
  const used = counts.map((row) => row.some((value) => value > 0.01));
  const [low, high] = [used.indexOf(true), used.lastIndexOf(true)];
  const shown = rows.slice(low, high + 1), cells = counts.slice(low, high + 1);
  const most = Math.max(...cells.flat());
  const paint = (context) => {
    const left = 62, bottom = 20, dx = (width - left) / (cells[0].length), dy = (height - bottom) / cells.length;
    hours(context, left, width, height);
    context.textAlign = 'right';
    cells.forEach((row, index) => {
      const y = height - bottom - (index + 1) * dy;
      context.fillStyle = theme.colors.text.secondary;
      if (dy > 11 || index % 2 === 0) context.fillText(bound(shown[index].labels.le), left - 6, y + dy / 2 + 4);
      row.forEach((value, at) => {
        if (value <= 0.01) return;
        context.fillStyle = BLUES[Math.min(BLUES.length - 1, Math.floor(Math.sqrt(value / most) * BLUES.length))];
        context.fillRect(left + at * dx, y + 0.5, Math.ceil(dx), dy - 1);
      });
    });
  };
  return <Canvas width={width} height={height} paint={paint} />;
}

function Track({ panel, lines, width, height }) {
  const states = panel.fieldConfig.defaults.mappings[0].options;
  const paint = (context) => {
    const left = 150, bottom = 44, dy = (height - bottom) / lines.length, dx = (width - left) / lines[0].values.length;
    hours(context, left, width, height - 24);
    lines.forEach(({ name, values }, index) => {
      context.textAlign = 'right';
      context.fillStyle = theme.colors.text.primary;
      context.fillText(name, left - 8, (index + 0.5) * dy + 4, left - 10);
      let begun = 0;
      values.forEach((value, at) => {
        if (value === values[at + 1]) return;
        const state = states[value], x = left + begun * dx;
        begun = at + 1;
        if (!state) return;
        context.fillStyle = colour(state.color);
        context.globalAlpha = 0.8;
        context.fillRect(x, index * dy + dy * 0.1, left + begun * dx - x, dy * 0.8);
        context.globalAlpha = 1;
      });
    });
    Object.values(states).reduce((x, { text, color }) => {
      context.fillStyle = colour(color);
      context.fillRect(x, height - 12, 12, 4);
      context.textAlign = 'left';
      context.fillStyle = theme.colors.text.primary;
      context.fillText(text, x + 18, height - 6);
      return x + 36 + context.measureText(text).width;
    }, 8);
  };
  return <Canvas width={width} height={height} paint={paint} />;
}

const BODIES = { timeseries: Graph, stat: Light, heatmap: Heat, 'state-timeline': Track };

function Panel({ panel, lines, width, height }) {
  const Body = BODIES[panel.type];
  const empty = !lines.length && panel.type !== 'stat';
  return <PanelChrome title={panel.title} description={panel.description} width={width} height={height} padding="sm">
    {(w, h) => (empty ? <div style={{ color: theme.colors.text.secondary, padding: 8 }}>No data</div>
      : <Body panel={panel} lines={lines} width={w} height={h} />)}
  </PanelChrome>;
}

const placed = DASHBOARD.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
const end = placed.filter(({ type }) => type === 'row')[ROWS]?.gridPos.y ?? Infinity;
const drawn = placed.filter(({ gridPos }) => gridPos.y < end);
const shown = [];
for (const panel of drawn)
  shown.push([panel, (await Promise.all((panel.targets ?? []).map(series))).flat()]);
const bottom = Math.max(...drawn.map(({ gridPos }) => gridPos.y + gridPos.h));

function Board() {
  React.useEffect(() => { document.fonts.ready.then(() => setTimeout(() => { document.body.dataset.ready = 'yes'; }, 1500)); }, []);
  return <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ background: theme.colors.background.canvas, padding: 16, width: WIDTH + 24 }}>
      <h3 style={{ margin: 0 }}>{DASHBOARD.title}</h3>
      <div style={{ position: 'relative', height: bottom * LINE }}>
        {shown.map(([panel, lines]) => {
          const { x, y, w, h } = panel.gridPos;
          const [width, height] = [w * CELL - GAP, h * LINE - GAP];
          return <div key={panel.id} style={{ position: 'absolute', left: x * CELL, top: y * LINE, width, height }}>
            {panel.type === 'row' ? <h5 style={{ margin: '10px 0 0' }}>{panel.title}</h5>
              : <Panel panel={panel} lines={lines} width={width} height={height} />}
          </div>;
        })}
      </div>
    </div>
  </ThemeContext.Provider>;
}
createRoot(document.getElementById('root')).render(<Board />);
