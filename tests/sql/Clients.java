import java.nio.file.*;
import java.sql.*;
import java.time.*;
import java.util.*;

/** pgjdbc against `iotctl serve`: metadata, and a prepared statement that is used until it is one of the server's. */
public class Clients {
    public static void main(String[] arguments) throws Exception {
        String host = arguments.length > 2 ? arguments[2] : "127.0.0.1";
        String url = "jdbc:postgresql://" + host + ":" + arguments[0] + "/iotctl?user=me";
        long expected = Files.lines(Path.of(arguments[1])).filter(line -> line.contains("\"plant-1\"")).count();
        try (Connection connection = DriverManager.getConnection(url)) {
            Set<String> tables = new TreeSet<>();
            try (ResultSet found = connection.getMetaData().getTables(null, "public", "%", null)) {
                while (found.next()) tables.add(found.getString("TABLE_NAME"));
            }
            if (!tables.containsAll(List.of("daily", "groups", "hourly", "latest", "readings", "sensors"))) {
                throw new IllegalStateException("tables: " + tables);
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
