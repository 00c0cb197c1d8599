"""A report that is made anew each time it is looked at, for runs that go on: served on this machine alone."""

import html
import http.server
import sys

from ...errors import UserError, explained
from . import content, page

SECONDS = 10  # after which a browser looks again, while a run goes on


def serve(folders, port, say):
    """Serves the report about the run folders ``folders`` at http://127.0.0.1:``port``/ (0: some free port) until Ctrl-C;
    ``say(address)`` hears where. Raises UserError where a folder is no run, and where the port cannot be had."""
    content.read(folders)
    try:
        server = _Server(("127.0.0.1", port), _handler(folders))
    except OSError as error:
        raise UserError(
            f"cannot serve at port {port}: {error.strerror}, give another --serve PORT"
        ) from error
    with server:
        say(f"http://127.0.0.1:{server.server_address[1]}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # the way to end it
            pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # a browser that has gone waits for nothing
            super().handle_error(request, client_address)


def _answer(folders):
    """The page, in bytes, and whether the browser should look again."""
    try:
        found = content.read(folders)
        return page.render(found).encode(), any(map(_goes_on, found["runs"]))
    except Exception as error:
        line = explained(error)
        if line is None:
            raise
        text = f"<!DOCTYPE html><title>Training runs</title><p>{html.escape(line)}"
        return text.encode(errors="replace"), True  # perhaps for a moment


def _handler(folders):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/":
                self.send_error(404)
                return
            body, goes_on = _answer(folders)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            if goes_on:
                self.send_header("Refresh", str(SECONDS))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    return Handler


def _goes_on(run):
    return run["summary"]["iteration"] < run["summary"]["max_iter"]
