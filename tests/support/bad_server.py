"""A local file server that can misbehave in many ways."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers /WAY/NAME by calling the method WAY with the contents of the file NAME."""

    def do_GET(self):
        _, way, name = self.path.split("/")
        self.server.asked.append((way, name))
        getattr(self, way)(self.server.files[name])

    def answer(self, body, length=None, **headers):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self, body):
        self.answer(body)

    def moved(self, body):
        self.send_response(302)
        self.send_header("Location", self.path.replace("moved", "good"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def labelled(self, body):  # declares the file's own gzip as a content encoding: most clients would unpack it
        self.answer(body, Content_Encoding="gzip", Content_Type="application/octet-stream")

    def unmeasured(self, body):  # no Content-Length
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def small_chunks(self, body):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (body[:1], body[1:2], body[2:]):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def absent(self, body):
        self.send_error(404)

    def failing(self, body):
        self.send_error(500)

    def cut(self, body):
        self.answer(body[: len(body) // 2], len(body))

    def cut_unmeasured(self, body):
        self.unmeasured(body[: len(body) // 2])

    def mute(self, body):  # closes the connection without an answer
        self.close_connection = True

    def wrong(self, body):
        self.answer(body[:-1] + bytes([body[-1] ^ 1]))

    def empty(self, body):
        self.answer(b"")

    def page(self, body):
        self.answer(b"<!DOCTYPE html><title>Please log in</title>", Content_Type="text/html")

    def silent(self, body):
        self.server.over.wait(10)

    def stalled(self, body):  # sends half and then nothing, but keeps the connection open
        self.answer(body[: len(body) // 2], len(body))
        self.wfile.flush()
        self.server.over.wait(10)

    # servers that would block a program forever

    def forever(self, piece, pause=0.0):
        while not self.server.over.wait(pause):
            self.wfile.write(piece)
            self.wfile.flush()

    def endless(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
        self.forever(bytes(1 << 16))

    def endless_chunks(self, body):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))
        self.forever(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    def endless_chunk_head(self, body):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.forever(b"0", 0.02)

    def dripping(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for i in range(len(body)):
            self.forever_once(body[i : i + 1])

    def dripping_unmeasured(self, body):
        self.send_response(200)
        self.end_headers()
        for i in range(len(body)):
            self.forever_once(body[i : i + 1])

    def forever_once(self, piece):
        if self.server.over.wait(0.02):
            raise ConnectionError
        self.wfile.write(piece)
        self.wfile.flush()

    def endless_head(self, body):
        self.send_response(200)
        self.flush_headers()
        self.forever(b"X", 0.02)

    def endless_heads(self, body):
        self.send_response(200)
        self.flush_headers()
        self.forever(b"X-Word: more\r\n", 0.001)

    def endless_promises(self, body):
        self.forever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.02)

    def moved_at_length(self, body):
        self.send_response(302)
        self.send_header("Location", self.path.replace("moved_at_length", "good"))
        self.end_headers()
        self.forever(bytes(1 << 16))

    def absent_at_length(self, body):
        self.send_response(404)
        self.end_headers()
        self.forever(bytes(1 << 16))

    def moving(self, body):
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def length_no_number(self, body):
        self.answer(body, "abc")

    def length_negative(self, body):
        self.answer(body, -len(body))

    def length_twice(self, body):
        self.answer(body, f"{len(body)}, {len(body) - 1}")

    def lengths_differ(self, body):
        self.send_response(200)
        for length in (len(body), len(body) + 1):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def length_same_twice(self, body):
        self.answer(body, f"{len(body)}, {len(body)}")

    def length_huge(self, body):
        self.answer(body, 10**30)

    def length_too_long(self, body):
        self.answer(body, 30_000)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):  # the client closed the connection
        pass
