/* librabbitmq as the benchmark uses it: fills a queue, or drains one.
 *
 *   rabbitmq fill URL QUEUE classic|quorum COUNT SIZE plain|anonymous|celery
 *   rabbitmq drain URL QUEUE COUNT PREFETCH BATCH
 *
 * `fill` declares the queue, publishes COUNT persistent messages with bodies of SIZE bytes, and returns when the
 * broker has confirmed them all. `anonymous` ones have no message id; `celery` ones call its task `noop`.
 * `drain` acknowledges each delivery (BATCH 1) or every BATCH-th with `multiple`, closes the channel after COUNT,
 * and prints one JSON object: when the first delivery came, when close-ok did, and its peak of resident memory.
 */

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

enum { CHANNEL = 1, FRAME_MAX = 131072, WINDOW = 2000, NAME_MAX_LENGTH = 64 };

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("rabbitmq: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

static void check_reply(const char *what, amqp_rpc_reply_t reply) {
  switch (reply.reply_type) {
  case AMQP_RESPONSE_NORMAL:
    return;
  case AMQP_RESPONSE_LIBRARY_EXCEPTION:
    fail("%s: %s", what, amqp_error_string2(reply.library_error));
    return;
  case AMQP_RESPONSE_SERVER_EXCEPTION:
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
      amqp_channel_close_t *closed = reply.reply.decoded;
      fail("%s: %d %.*s", what, closed->reply_code, (int)closed->reply_text.len, (char *)closed->reply_text.bytes);
    }
    fail("%s: the broker closed the connection", what);
    return;
  default:
    fail("%s: no answer", what);
  }
}

static void check(const char *what, int status) {
  if (status != AMQP_STATUS_OK)
    fail("%s: %s", what, amqp_error_string2(status));
}

static long number(const char *name, const char *text) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*end != '\0' || value < 1)
    fail("%s %s: a whole number from 1 is expected", name, text);
  return value;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The most memory that was resident so far, of this program alone: getrusage would count what its parent had. */
static long peak_kib(void) {
  char line[256];
  long peak = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status != NULL && fgets(line, sizeof line, status) != NULL)
    if (sscanf(line, "VmHWM: %ld", &peak) == 1)
      break;
  if (status != NULL)
    fclose(status);
  return peak;
}

static amqp_connection_state_t open_channel(char *url) {
  struct amqp_connection_info info;
  check("the URL", amqp_parse_url(url, &info));
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  if (socket == NULL)
    fail("no memory for a socket");
  check("connecting", amqp_socket_open(socket, info.host, info.port));
  check_reply("logging in", amqp_login(connection, info.vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN,
                                       info.user, info.password));
  amqp_channel_open(connection, CHANNEL);
  check_reply("channel.open", amqp_get_rpc_reply(connection));
  return connection;
}

static void close_all(amqp_connection_state_t connection) {
  check_reply("connection.close", amqp_connection_close(connection, AMQP_REPLY_SUCCESS));
  check("ending", amqp_destroy_connection(connection));
}

static amqp_table_entry_t text_header(const char *name, const char *value) {
  amqp_table_entry_t entry;
  entry.key = amqp_cstring_bytes(name);
  entry.value.kind = AMQP_FIELD_KIND_UTF8;
  entry.value.value.bytes = amqp_cstring_bytes(value);
  return entry;
}

/* The body of a Celery call with one argument that makes up for the size; or just bytes. */
static char *make_body(const char *kind, long size) {
  static const char begin[] = "[[\"";
  static const char end[] = "\"], {}, {\"callbacks\": null, \"errbacks\": null, \"chain\": null, \"chord\": null}]";
  char *body = malloc((size_t)size);
  if (body == NULL)
    fail("no memory for a body of %ld bytes", size);
  memset(body, 'x', (size_t)size);
  if (strcmp(kind, "celery") == 0) {
    if (size < (long)(sizeof begin + sizeof end))
      fail("a call of Celery has at least %zu bytes", sizeof begin + sizeof end);
    memcpy(body, begin, sizeof begin - 1);
    memcpy(body + size - (sizeof end - 1), end, sizeof end - 1);
  }
  return body;
}

/* The confirms of a run: which tags have one, how many do, and up to which tag all do. */
struct confirms {
  char *seen;
  uint64_t count, prefix;
};

static void note_confirm(struct confirms *confirms, uint64_t tag, int multiple) {
  uint64_t from = multiple ? confirms->prefix + 1 : tag;
  for (uint64_t each = from; each <= tag; each++) {
    confirms->count += !confirms->seen[each];
    confirms->seen[each] = 1;
  }
  while (confirms->seen[confirms->prefix + 1])
    confirms->prefix++;
}

/* Waits for confirms until at most `allowed` of `published` messages lack one. */
static void await_confirms(amqp_connection_state_t connection, struct confirms *confirms, uint64_t published,
                           uint64_t allowed) {
  while (published - confirms->count > allowed) {
    amqp_frame_t frame;
    check("awaiting a confirm", amqp_simple_wait_frame(connection, &frame));
    if (frame.frame_type != AMQP_FRAME_METHOD)
      continue;
    if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
      fail("a message was not confirmed (method %x)", frame.payload.method.id);
    amqp_basic_ack_t *ack = frame.payload.method.decoded;
    if (ack->delivery_tag > published)
      fail("a confirm of a message that was not published");
    note_confirm(confirms, ack->delivery_tag, ack->multiple);
    amqp_maybe_release_buffers(connection);
  }
}

static void fill(char *url, const char *queue, const char *type, long count, long size, const char *kind) {
  amqp_connection_state_t connection = open_channel(url);
  amqp_table_entry_t type_entry = text_header("x-queue-type", type);
  amqp_table_t arguments = {1, &type_entry};
  amqp_queue_declare(connection, CHANNEL, amqp_cstring_bytes(queue), 0, 1, 0, 0, arguments);
  check_reply("queue.declare", amqp_get_rpc_reply(connection));
  amqp_confirm_select(connection, CHANNEL);
  check_reply("confirm.select", amqp_get_rpc_reply(connection));

  int celery = strcmp(kind, "celery") == 0;
  char id[NAME_MAX_LENGTH];
  amqp_bytes_t body = {(size_t)size, make_body(kind, size)};
  amqp_basic_properties_t properties;
  memset(&properties, 0, sizeof properties);
  properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
  properties.content_type = amqp_cstring_bytes(celery ? "application/json" : "application/octet-stream");
  properties.delivery_mode = 2;
  if (strcmp(kind, "anonymous") != 0)
    properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
  if (celery) {
    properties._flags |= AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG;
    properties.content_encoding = amqp_cstring_bytes("utf-8");
  }
  /* One more for the tag 0 that there is not, one for the end. */
  struct confirms confirms = {calloc((size_t)count + 2, 1), 0, 0};
  if (confirms.seen == NULL)
    fail("no memory for %ld confirms", count);
  for (long i = 1; i <= count; i++) {
    snprintf(id, sizeof id, "00000000-0000-4000-8000-%012ld", i);
    properties.message_id = amqp_cstring_bytes(id);
    properties.correlation_id = properties.message_id;
    amqp_table_entry_t headers[] = {
        text_header("lang", "py"),
        text_header("task", "noop"),
        text_header("id", id),
        text_header("root_id", id),
    };
    properties.headers.num_entries = sizeof headers / sizeof headers[0];
    properties.headers.entries = headers;
    check("basic.publish", amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(queue), 0, 0,
                                              &properties, body));
    await_confirms(connection, &confirms, (uint64_t)i, WINDOW);
  }
  await_confirms(connection, &confirms, (uint64_t)count, 0);
  free(confirms.seen);
  free(body.bytes);
  close_all(connection);
}

static void drain(char *url, const char *queue, long count, long prefetch, long batch) {
  amqp_connection_state_t connection = open_channel(url);
  amqp_basic_qos(connection, CHANNEL, 0, (uint16_t)prefetch, 0);
  check_reply("basic.qos", amqp_get_rpc_reply(connection));
  amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
  check_reply("basic.consume", amqp_get_rpc_reply(connection));
  double first = 0;
  uint64_t bytes = 0;
  for (long i = 1; i <= count; i++) {
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(connection);
    check_reply("consuming", amqp_consume_message(connection, &envelope, NULL, 0));
    if (i == 1)
      first = now();
    bytes += envelope.message.body.len;
    if (batch == 1 || i % batch == 0 || i == count)
      check("basic.ack", amqp_basic_ack(connection, CHANNEL, envelope.delivery_tag, batch > 1));
    amqp_destroy_envelope(&envelope);
  }
  check_reply("channel.close", amqp_channel_close(connection, CHANNEL, AMQP_REPLY_SUCCESS));
  double closed = now();
  close_all(connection);
  printf("{\"first\": %.6f, \"closed\": %.6f, \"messages\": %ld, \"bytes\": %llu, \"peak_kib\": %ld}\n", first,
         closed, count, (unsigned long long)bytes, peak_kib());
}

int main(int count, char **arguments) {
  if (count == 8 && strcmp(arguments[1], "fill") == 0) {
    fill(arguments[2], arguments[3], arguments[4], number("COUNT", arguments[5]), number("SIZE", arguments[6]),
         arguments[7]);
  } else if (count == 7 && strcmp(arguments[1], "drain") == 0) {
    drain(arguments[2], arguments[3], number("COUNT", arguments[4]), number("PREFETCH", arguments[5]),
          number("BATCH", arguments[6]));
  } else {
    fputs("usage: rabbitmq fill URL QUEUE classic|quorum COUNT SIZE plain|anonymous|celery\n"
          "       rabbitmq drain URL QUEUE COUNT PREFETCH BATCH\n",
          stderr);
    return 2;
  }
  return 0;
}
