// Makes java-batches.json: record sets written and read by Apache Kafka's own classes, the oracle of record-batch-java.test.ts.
// java -cp 'kafka_2.13-4.1.1/libs/*' test/log/kafka/JavaBatches.java > test/log/kafka/java-batches.json
import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.TimestampType;

public class JavaBatches {
  static final long T = 1_795_000_000_000L;

  final ByteArrayOutputStream set = new ByteArrayOutputStream();

  static byte[] bytes(String s) {
    return s == null ? null : s.getBytes(StandardCharsets.UTF_8);
  }

  void add(MemoryRecords r) {
    ByteBuffer b = r.buffer().duplicate();
    byte[] raw = new byte[b.remaining()];
    b.get(raw);
    set.writeBytes(raw);
  }

  /** Every step-th offset from base on is taken, as after compaction. */
  JavaBatches batch(int magic, CompressionType type, TimestampType time, long base, int count, int step, long producer, boolean tx) {
    short epoch = (short) (producer < 0 ? -1 : 3);
    int sequence = producer < 0 ? -1 : 5;
    MemoryRecordsBuilder b = new MemoryRecordsBuilder(ByteBuffer.allocate(1 << 16), (byte) magic, Compression.of(type).build(), time,
        base, T + 777, producer, epoch, sequence, tx, false, 11, 1 << 20);
    for (int i = 0; i < count; i++) {
      String key = i % 3 == 0 ? null : i % 3 == 1 ? "" : "key-" + i;
      String value = i % 7 == 3 ? null : i % 7 == 5 ? "" : "{\"id\":" + (base + i) + ",\"text\":\"" + "event ".repeat(i % 40) + "\"}";
      Header[] headers = magic < 2 || step == 1 || i % 4 == 0 ? new Header[0]
          : i % 4 == 1 ? new Header[] {new RecordHeader("trace", bytes("abc" + i)), new RecordHeader("none", (byte[]) null)}
          : new Header[] {new RecordHeader("", bytes("")), new RecordHeader("long", bytes("x".repeat(100)))};
      long at = i == 9 ? T + 9_000_000_000L : i % 5 == 4 ? T - 1000 : T + i * 37L;
      b.appendWithOffset(base + (long) i * step, at, bytes(key), bytes(value), headers);
    }
    add(b.build());
    return this;
  }

  JavaBatches end(long offset, long producer, ControlRecordType type) {
    add(MemoryRecords.withEndTransactionMarker(offset, T, 11, producer, (short) 3, new EndTransactionMarker(type, 0)));
    return this;
  }

  static String base64(ByteBuffer b) {
    if (b == null) return "null";
    byte[] raw = new byte[b.remaining()];
    b.duplicate().get(raw);
    return '"' + Base64.getEncoder().encodeToString(raw) + '"';
  }

  static String header(Header h) {
    return "[\"" + h.key() + "\"," + base64(h.value() == null ? null : ByteBuffer.wrap(h.value())) + "]";
  }

  String json(String name) {
    ByteBuffer raw = ByteBuffer.wrap(set.toByteArray());
    List<String> records = new ArrayList<>();
    for (RecordBatch batch : MemoryRecords.readableRecords(raw).batches()) {
      batch.ensureValid();
      if (batch.isControlBatch()) continue;
      for (var r : batch) {
        String headers = List.of(r.headers()).stream().map(JavaBatches::header).collect(Collectors.joining(","));
        records.add("[" + r.offset() + "," + r.timestamp() + "," + base64(r.key()) + "," + base64(r.value()) + ",[" + headers + "]]");
      }
    }
    return "{\"name\":\"" + name + "\",\n\"bytes\":" + base64(raw) + ",\n\"records\":[\n" + String.join(",\n", records) + "]}";
  }

  public static void main(String[] args) {
    TimestampType create = TimestampType.CREATE_TIME;
    List<String> cases = new ArrayList<>();
    for (CompressionType c : CompressionType.values()) {
      cases.add(new JavaBatches().batch(2, c, create, 1000, 24, 3, -1, false).batch(2, c, create, 1500, 10, 1, -1, false).json(c.name));
    }
    cases.add(new JavaBatches().batch(2, CompressionType.NONE, TimestampType.LOG_APPEND_TIME, 0, 8, 1, -1, false).json("append time"));
    CompressionType n = CompressionType.NONE;
    cases.add(new JavaBatches()
        .batch(2, n, create, 100, 2, 1, 7, true).batch(2, n, create, 102, 2, 1, 8, true).batch(2, n, create, 104, 2, 1, -1, false)
        .end(106, 7, ControlRecordType.ABORT).batch(2, n, create, 107, 2, 1, 7, true).end(109, 8, ControlRecordType.COMMIT)
        .end(110, 7, ControlRecordType.COMMIT).json("transactions"));
    cases.add(new JavaBatches().batch(0, n, create, 0, 2, 1, -1, false).json("v0"));
    cases.add(new JavaBatches().batch(1, CompressionType.GZIP, create, 0, 2, 1, -1, false).json("v1"));
    System.out.println("[" + String.join(",\n", cases) + "]");
  }
}
