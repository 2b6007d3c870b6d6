// node-postgres against `iotctl serve`: the rows that `iotctl query` finds, with parameters.
// Usage: node clients.mjs PORT READINGS.ndjson [HOST]
import { readFileSync } from 'node:fs';
import pg from 'pg';

const [port, file, host = '127.0.0.1'] = process.argv.slice(2);
const rows = readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
const location = rows[0].location;
const expected = rows
  .filter((row) => row.location === location)
  .map((row) => `${new Date(row.recorded_timestamp).toISOString()} ${row.iot_sensor_id} ${row.temperature ?? null}`)
  .sort();

const client = new pg.Client({ host, port: Number(port), user: 'me', database: 'iotctl' });
await client.connect();
const answer = await client.query(
  'SELECT iot_sensor_id, recorded_timestamp, temperature FROM readings WHERE location = $1 ORDER BY recorded_timestamp',
  [location],
);
const found = answer.rows
  .map((row) => `${row.recorded_timestamp.toISOString()} ${row.iot_sensor_id} ${row.temperature}`)
  .sort();
const prepared = { name: 'by-location', text: 'SELECT count(*)::int AS n FROM readings WHERE location = $1 AND temperature > $2' };
for (const limit of [-1000, 20]) {
  const { rows: [{ n }] } = await client.query({ ...prepared, values: [location, limit] });
  const wanted = rows.filter((row) => row.location === location && row.temperature != null && row.temperature > limit).length;
  if (n !== wanted) throw new Error(`node-postgres: ${n} instead of ${wanted}`);
}
const code = await client.query('SELECT * FROM nothing').catch((error) => error.code);
if (code !== '42P01') throw new Error(`node-postgres: ${code} instead of 42P01`);
await client.end();
const wrong = expected.findIndex((line, index) => line !== found[index]);
if (found.length !== expected.length || wrong >= 0) {
  console.error(`node-postgres: ${found.length} rows instead of ${expected.length}: ${found[wrong]}, ${expected[wrong]}`);
  process.exit(1);
}
console.log(`node-postgres: ${found.length} rows equal`);
