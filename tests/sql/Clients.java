import java.io.*;
import java.nio.file.*;
import java.sql.*;
import java.time.*;
import java.util.*;

/** pgjdbc against `iotctl serve`: metadata, and a prepared statement that is used until it is one of the server's. */
public class Clients {
    public static void main(String[] arguments) throws Exception {
        String host = arguments.length > 2 ? arguments[2] : "127.0.0.1";
        String url = "jdbc:postgresql://" + host + ":" + arguments[0] + "/iotctl?user=" + (arguments.length > 3 ? arguments[3] : "me");
        long expected = Files.lines(Path.of(arguments[1])).filter(line -> line.contains("\"plant-1\"")).count();
        try (Connection connection = DriverManager.getConnection(url)) {
            Set<String> tables = new TreeSet<>();
            try (ResultSet found = connection.getMetaData().getTables(null, "public", "%", null)) {
                while (found.next()) tables.add(found.getString("TABLE_NAME"));
            }
            if (!tables.containsAll(List.of("daily", "groups", "hourly", "latest", "readings", "sensors"))) {
                throw new IllegalStateException("tables: " + tables);
            }
            Map<String, String> columns = new TreeMap<>();
            try (ResultSet found = connection.getMetaData().getColumns(null, "public", "readings", "%")) {
                while (found.next()) columns.put(found.getString("COLUMN_NAME"), found.getString("TYPE_NAME"));
            }
            if (!"timestamptz".equals(columns.get("recorded_timestamp")) || !"float8".equals(columns.get("temperature"))) {
                throw new IllegalStateException("columns: " + columns);
            }
            try (ResultSet found = connection.getMetaData().getSchemas()) {
                Set<String> schemas = new TreeSet<>();
                while (found.next()) schemas.add(found.getString("TABLE_SCHEM"));
                if (!schemas.contains("public")) throw new IllegalStateException("schemas: " + schemas);
            }
            metadata(connection.getMetaData());
            // In a transaction rows come by portions.
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(1000);
                long rows = 0;
                try (ResultSet found = statement.executeQuery("SELECT * FROM readings WHERE location = 'plant-1'")) {
                    while (found.next()) rows++;
                }
                if (rows != expected) throw new IllegalStateException(rows + " rows by portions instead of " + expected);
            }
            connection.commit();
            connection.setAutoCommit(true);
            StringWriter copied = new StringWriter();
            connection.unwrap(org.postgresql.PGConnection.class).getCopyAPI()
                .copyOut("COPY (SELECT DISTINCT location FROM readings ORDER BY 1) TO STDOUT", copied);
            if (!copied.toString().startsWith("plant-1\n")) throw new IllegalStateException("copied: " + copied);
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery("SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b");
                throw new IllegalStateException("a statement without an end ended");
            } catch (SQLException error) {
                if (!"57014".equals(error.getSQLState())) throw error;
            }
            String sql = "SELECT count(*), max(recorded_timestamp) FROM readings WHERE location = ? AND recorded_timestamp >= ?";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                // From the fifth time on with binary results.
                for (int time = 0; time < 8; time++) {
                    statement.setString(1, "plant-1");
                    statement.setObject(2, OffsetDateTime.of(2020, 1, 1, 0, 0, 0, 0, ZoneOffset.UTC));
                    try (ResultSet found = statement.executeQuery()) {
                        found.next();
                        if (found.getLong(1) != expected || found.getTimestamp(2) == null) {
                            throw new IllegalStateException(found.getLong(1) + " rows instead of " + expected);
                        }
                    }
                }
            }
        }
        System.out.println("pgjdbc: " + expected + " rows counted");
    }

    /** What tools ask of a driver: keys, indexes, types and functions. */
    static void metadata(DatabaseMetaData metadata) throws SQLException {
        List<String> key = List.of("location", "device_type", "iot_sensor_id", "recorded_timestamp");
        equal("key", column(metadata.getPrimaryKeys(null, "public", "readings"), "COLUMN_NAME"), sorted(key));
        equal("numbers", column(metadata.getPrimaryKeys("iotctl", "public", "readings"), "KEY_SEQ"), List.of("4", "1", "3", "2").stream().sorted().toList());
        equal("no key", column(metadata.getPrimaryKeys(null, null, "alerts"), "COLUMN_NAME"), List.of());
        for (boolean unique : new boolean[] {true, false}) {
            ResultSet indexes = metadata.getIndexInfo(null, "public", "readings", unique, false);
            equal("index", column(indexes, "COLUMN_NAME"), sorted(key));
        }
        equal("imported", column(metadata.getImportedKeys(null, "public", "readings"), "FK_NAME"), List.of());
        equal("exported", column(metadata.getExportedKeys(null, "public", "readings"), "FK_NAME"), List.of());
        equal("crossed", column(metadata.getCrossReference(null, null, "sensors", null, null, "readings"), "FK_NAME"), List.of());
        equal("rows", column(metadata.getBestRowIdentifier(null, "public", "sensors", DatabaseMetaData.bestRowSession, false), "COLUMN_NAME"),
            List.of("device_type", "iot_sensor_id", "location"));
        equal("versions", column(metadata.getVersionColumns(null, "public", "sensors"), "COLUMN_NAME").size() < 2, true);
        equal("catalogs", column(metadata.getCatalogs(), "TABLE_CAT"), List.of("iotctl"));
        equal("schemas", column(metadata.getSchemas(null, "pub%"), "TABLE_SCHEM"), List.of("public"));
        equal("table types", column(metadata.getTableTypes(), "TABLE_TYPE").containsAll(List.of("TABLE", "VIEW")), true);
        equal("tables", column(metadata.getTables("iotctl", "public", "%", new String[] {"TABLE"}), "TABLE_NAME").size(), 9);
        equal("views", column(metadata.getTables(null, "public", "%", new String[] {"VIEW"}), "TABLE_NAME"), List.of());
        equal("comment", column(metadata.getTables(null, "public", "latest", null), "REMARKS"), List.of("the newest reading of each sensor"));
        equal("types", column(metadata.getTypeInfo(), "TYPE_NAME").containsAll(List.of("float8", "int4", "text", "timestamptz")), true);
        equal("functions", column(metadata.getFunctions(null, "pg_catalog", "date_trunc"), "FUNCTION_NAME").contains("date_trunc"), true);
        equal("parameters", column(metadata.getFunctionColumns(null, "pg_catalog", "lower", null), "FUNCTION_NAME").isEmpty(), false);
        column(metadata.getProcedures(null, null, "%"), "PROCEDURE_NAME");
        column(metadata.getUDTs(null, null, "%", null), "TYPE_NAME");
        column(metadata.getTablePrivileges(null, "public", "readings"), "PRIVILEGE");
        column(metadata.getColumnPrivileges(null, "public", "readings", "%"), "PRIVILEGE");
        column(metadata.getClientInfoProperties(), "NAME");
        equal("keywords", metadata.getSQLKeywords().isEmpty(), false);
        try (ResultSet found = metadata.getColumns(null, "public", "readings", "%")) {
            int number = 0;
            while (found.next()) {
                number++;
                boolean isKey = key.contains(found.getString("COLUMN_NAME"));
                equal("number of " + found.getString("COLUMN_NAME"), found.getInt("ORDINAL_POSITION"), number);
                equal("may be missing: " + found.getString("COLUMN_NAME"), found.getString("IS_NULLABLE"), isKey ? "NO" : "YES");
            }
        }
        System.out.println("pgjdbc: metadata as they are");
    }

    static List<String> sorted(List<String> values) {
        return values.stream().sorted().toList();
    }

    /** A column of an answer, sorted. */
    static List<String> column(ResultSet found, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        try (found) {
            while (found.next()) values.add(found.getString(name));
        }
        return sorted(values);
    }

    static void equal(String what, Object found, Object expected) {
        if (!Objects.equals(found, expected)) throw new IllegalStateException(what + ": " + found + " instead of " + expected);
    }
}
