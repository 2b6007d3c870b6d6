"""TLS and basic authentication in front of a schema registry, as companies run them.

Usage: proxy.py ADDRESS:PORT REGISTRY_URL CERTIFICATE.pem KEY.pem USER:PASSWORD

Requests without the login are answered with 401. Each request is printed: its status and its path.
"""

import base64
import http.server
import ssl
import sys
import urllib.error
import urllib.request

address, registry, certificate, key, login = sys.argv[1:]
host, port = address.rsplit(":", 1)
expected = "Basic " + base64.b64encode(login.encode()).decode()


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Authorization") != expected:
            return self.answer(401, b'{"error_code":401,"message":"Unauthorized"}')
        request = urllib.request.Request(registry + self.path, headers={"Accept": self.headers.get("Accept", "*/*")})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read())

    def answer(self, status: int, body: bytes):
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(status, self.path, flush=True)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((host, int(port)), Proxy)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
