// Prints JSON Schemas of a dashboard and of the options of its kinds of panels, from Grafana's own types.
import { createGenerator } from 'ts-json-schema-generator';

const TYPES = 'node_modules/@grafana/schema/dist/esm/raw';
const panel = (kind, name) => `${TYPES}/composable/${kind}/panelcfg/x/${name}PanelCfg_types.gen.d.ts`;
const schema = (path, type) =>
  createGenerator({ path, type, skipTypeCheck: true, additionalProperties: false }).createSchema(type);

const schemas = { dashboard: schema(`${TYPES}/dashboard/x/dashboard_types.gen.d.ts`, 'Dashboard') };
for (const [type, kind, name, custom] of [
  ['stat', 'stat', 'Stat', false],
  ['timeseries', 'timeseries', 'TimeSeries', true],
  ['heatmap', 'heatmap', 'Heatmap', true],
  ['state-timeline', 'statetimeline', 'StateTimeline', true],
]) {
  schemas[`${type} options`] = schema(panel(kind, name), 'Options');
  if (custom) schemas[`${type} custom`] = schema(panel(kind, name), 'FieldConfig');
}
console.log(JSON.stringify(schemas));
