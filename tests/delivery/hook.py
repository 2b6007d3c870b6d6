"""An HTTP server that keeps the body of each POST: hook.py HOST PORT FOLDER."""
import http.server, itertools, pathlib, sys

host, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
numbers = itertools.count(1)

class Keep(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (folder / f"{next(numbers)}.json").write_bytes(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer((host, port), Keep).serve_forever()
