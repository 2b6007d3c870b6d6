"""The dashboards of sensor values against `iotctl serve`: the SQL of every panel and every variable, with its macros and
variables filled in as Grafana's PostgreSQL data source does it (pkg/tsdb/grafana-postgresql-datasource/macros.go; variables:
quoted and joined by commas where several can be chosen). Fails where one has no rows or an error.

Usage: grafana.py HOST PORT FROM TO        (FROM and TO: RFC 3339)
"""

import datetime
import json
import pathlib
import re
import sys

import psycopg

HOST, PORT, FROM, TO = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]
FOLDER = pathlib.Path(__file__).parent.parent.parent / "monitoring/grafana/sensors"
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def interval_of_graph(most_points=1000):
    """`$__interval` as the data source computes it: the range by the points of a graph, at least 1 s, rounded."""
    seconds = (moment(TO) - moment(FROM)).total_seconds() / most_points
    steps = [1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400]
    return f"{next((step for step in steps if step >= seconds), 86400)}s"


class Macros:
    """`fill` is what the data source itself does with gaps after the query, if a macro asks for it."""

    def __init__(self, timescale):
        self.timescale, self.fill = timescale, None

    def expand(self, sql):
        def replaced(match):
            name, arguments = match[1], [argument.strip(" ") for argument in match[2].split(",")]
            if name == "__timeGroup" and sql[match.end() : match.end() + 1] == ",":
                name = "__timeGroupAlias"
            return self.macro(name, arguments)

        return re.sub(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)", replaced, sql)

    def macro(self, name, arguments):
        column = arguments[0]
        if name == "__time":
            return f'{column} AS "time"'
        if name == "__timeEpoch":
            return f'extract(epoch from {column}) as "time"'
        if name == "__timeFilter":
            return f"{column} BETWEEN '{FROM}' AND '{TO}'"
        if name == "__timeFrom":
            return f"'{FROM}'"
        if name == "__timeTo":
            return f"'{TO}'"
        if name == "__timeGroupAlias":
            return self.macro("__timeGroup", arguments) + ' AS "time"'
        if name == "__timeGroup":
            number, unit = re.fullmatch(r"(\d+)([a-z]+)", arguments[1].strip("'")).groups()
            seconds = int(number) * UNITS[unit]
            if len(arguments) == 3:
                self.fill = (arguments[2], seconds)
            if self.timescale:
                return f"time_bucket('{seconds:.3f}s',{column})"
            return f"floor(extract(epoch from {column})/{seconds:g})*{seconds:g}"
        raise SystemExit(f"unknown macro {name}")


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


def fill_in(sql, values, timescale):
    """Global variables, then the dashboard's, then macros, as Grafana does it."""
    sql = sql.replace("$__interval_ms", "60000").replace("$__interval", interval_of_graph())
    for name, (chosen, is_list) in values.items():
        text = ",".join(map(quoted, chosen)) if is_list else str(chosen[0]).replace("'", "''")
        sql = re.sub(rf"\$(?:{name}\b|{{{name}}})", lambda _: text, sql)
    macros = Macros(timescale)
    return macros.expand(sql), macros


def rows_of(connection, what, sql):
    try:
        cursor = connection.execute(sql)
        return [column.name for column in cursor.description], [column.type_code for column in cursor.description], cursor.fetchall()
    except psycopg.Error as error:
        raise SystemExit(f"{what}: {error}\n{sql}") from error


def check_series(what, names, rows):
    """What the data source needs of a time series: a column `time` in order, and numbers (beside one text `metric`)."""
    if names[0] != "time":
        raise SystemExit(f"{what}: the first column is {names[0]} and not time")
    times = [row[0] for row in rows]
    if times != sorted(times):
        raise SystemExit(f"{what}: not in order of time")
    for name, column in list(zip(names, zip(*rows)))[1:]:
        if name != "metric" and not any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in column):
            raise SystemExit(f"{what}: {name} has no number")


def gaps_filled(rows, fill, width):
    """Rows after the data source has filled the gaps of the first series."""
    times = {row[0] for row in rows}
    first, last = min(times), max(times)
    steps = round((last - first).total_seconds() / width) if hasattr(first, "tzinfo") else round((last - first) / width)
    return steps + 1, len(times)


def values_of(connection, name, dashboard, one_only, timescale):
    values = {}
    for variable in dashboard["templating"]["list"]:
        sql, _ = fill_in(variable["query"], values, timescale)
        names, _, rows = rows_of(connection, f"{name}: variable {variable['name']}", sql)
        if not rows:
            raise SystemExit(f"{name}: variable {variable['name']} has no choice\n{sql}")
        column = names.index("__value") if "__value" in names else 0
        found = [row[column] for row in rows]
        preferred = next((value for value in ("temperature", "weather-station", "critical") if value in found), found[0])
        is_list = variable.get("multi") or variable.get("includeAll")
        values[variable["name"]] = (found if is_list and not one_only else [preferred], is_list)
    return values


def main():
    count = 0
    with psycopg.connect(f"host={HOST} port={PORT} dbname=iotctl user=grafana password=x", autocommit=True) as connection:
        for path in sorted(FOLDER.glob("*.json")):
            dashboard = json.loads(path.read_text())
            # All values of each variable and one of each; buckets of TimescaleDB, as provisioned, and without.
            for one_only, timescale in ((False, True), (True, True), (False, False)):
                values = values_of(connection, path.stem, dashboard, one_only, timescale)
                for panel in dashboard["panels"]:
                    for target in panel["targets"]:
                        what = f"{path.stem}: {panel['title']} {target['refId']}"
                        sql, macros = fill_in(target["rawSql"], values, timescale)
                        if "$" in sql:
                            raise SystemExit(f"{what}: not filled in: {sql}")
                        names, _, rows = rows_of(connection, what, sql)
                        if not rows or all(value is None for row in rows for value in row):
                            raise SystemExit(f"{what} is empty\n{sql}")
                        if target["format"] == "time_series":
                            check_series(what, names, rows)
                        if macros.fill:
                            after, before = gaps_filled(rows, *macros.fill)
                            assert after >= before, what
                        count += 1
    print(f"Grafana: {count} queries of panels, none empty")


main()
