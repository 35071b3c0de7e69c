"""The toy service in grpcio, without generated code: a server to call (`serve ENCODING`) or a caller of servers
(`call NAME PORT ENCODINGS …`, three words a server).

Messages are made by hand: field 1 of `Chunk` and of `Summary` is all that is looked at."""

import sys
import threading
from concurrent import futures

import grpc

SIZES = [0, 1, 1000, 16384, 65536, 1 << 20]
ENCODINGS = {
    "identity": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}


def same(message):
    return message


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def read_varint(message, at):
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def chunk(size, byte):
    return b"\x0a" + varint(size) + bytes([byte]) * size if size else b""


def numbers(message):
    """The numbers in a message that has no other fields."""
    fields, at = {}, 0
    while at < len(message):
        key, at = read_varint(message, at)
        fields[key >> 3], at = read_varint(message, at)
    return fields


def call(server, port, names):
    for encoding in names.split(","):
        name = f"{server} {encoding}"
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", compression=ENCODINGS[encoding])
        put = channel.stream_unary("/toy.v1.Toy/Put", same, same)
        get = channel.unary_stream("/toy.v1.Toy/Get", same, same)
        chat = channel.stream_stream("/toy.v1.Toy/Chat", same, same)
        hello = channel.unary_unary("/toy.v1.Toy/Hello", same, same)
        for size in SIZES:
            sent = [chunk(size, byte) for byte in range(3)]
            assert numbers(put(iter(sent))).get(1) == 3, (name, size)
            wanted = b"\x08" + varint(3) + b"\x10" + varint(size)
            got = list(get(wanted))
            assert got == [chunk(size, 0xA5)] * 3, (name, size, len(got))
            if size:
                assert list(chat(iter(sent))) == sent, (name, size)
        # A call that is given up leaves the connection as it was.
        given_up = get(b"\x08" + varint(200) + b"\x10" + varint(65536))
        next(given_up)
        given_up.cancel()
        answer = hello(b"\x12\x03Ada")
        assert b"active" in answer and b"Ada" in answer, (name, answer)
        # What is short while it is compressed is refused when it is decompressed.
        too_long = grpc.StatusCode.OUT_OF_RANGE if encoding == "identity" else grpc.StatusCode.RESOURCE_EXHAUSTED
        failures = [
            (lambda: hello(b"\x12\x06nobody"), grpc.StatusCode.NOT_FOUND),
            (lambda: hello(b"\x12\x05never", timeout=0.1), grpc.StatusCode.DEADLINE_EXCEEDED),
            (lambda: list(chat(iter([chunk(1, 1), chunk(0, 0)]))), grpc.StatusCode.DATA_LOSS),
            (lambda: put(iter([chunk(5 << 20, 1)])), too_long),
            (lambda: channel.unary_unary("/toy.v1.Toy/None", same, same)(b""), grpc.StatusCode.UNIMPLEMENTED),
        ]
        for fails, code in failures:
            try:
                fails()
            except grpc.RpcError as error:
                # Whose clock is first to see a deadline, the caller's or the server's, is not known.
                late = code == grpc.StatusCode.DEADLINE_EXCEEDED and error.code() == grpc.StatusCode.CANCELLED
                assert error.code() == code or late, (name, code, error)
                reasons = [value for key, value in error.trailing_metadata() if key == "x-reason"]
                assert (reasons == ["none"]) == (code == grpc.StatusCode.NOT_FOUND), (name, code, reasons)
            else:
                raise AssertionError((name, code, "no failure"))
        channel.close()


class Toy(grpc.GenericRpcHandler):
    def service(self, details):
        kinds = {
            "/toy.v1.Toy/Put": grpc.stream_unary_rpc_method_handler(self.put, same, same),
            "/toy.v1.Toy/Get": grpc.unary_stream_rpc_method_handler(self.get, same, same),
            "/toy.v1.Toy/Chat": grpc.stream_stream_rpc_method_handler(self.chat, same, same),
            "/toy.v1.Toy/Hello": grpc.unary_unary_rpc_method_handler(self.hello, same, same),
        }
        return kinds.get(details.method)

    def put(self, chunks, context):
        count = total = 0
        for message in chunks:
            count += 1
            total += read_varint(message, 1)[0] if message else 0
        return b"\x08" + varint(count) + b"\x10" + varint(total)

    def get(self, request, context):
        wanted = numbers(request)
        for _ in range(wanted.get(1, 0)):
            yield chunk(wanted.get(2, 0), 0xA5)

    def chat(self, chunks, context):
        for message in chunks:
            if not message:
                context.abort(grpc.StatusCode.DATA_LOSS, "an empty chunk")
            yield message

    def hello(self, request, context):
        if b"never" in request:
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait()
        if b"nobody" in request:
            context.set_trailing_metadata((("x-reason", "none"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "nobody is called that")
        return b"\x08\x07" + request + b"\x32\x06active"


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(4), compression=ENCODINGS[sys.argv[2]])
    server.add_generic_rpc_handlers([Toy()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    # Until the parent goes.
    sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        words = iter(sys.argv[2:])
        for server in zip(words, words, words):
            call(*server)
