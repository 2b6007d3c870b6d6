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
}
