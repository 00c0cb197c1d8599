"""A headless Chromium, driven over its DevTools protocol."""

import itertools
import json
import os
import signal
import subprocess
import time

import websocket

_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}


class Browser:
    """A browser with one tab of 1280×900. ``complaints`` are the open page's errors, ``requests`` the addresses that it
    asked for. Use it as a context manager."""

    def __init__(self, folder):
        """``folder`` holds its profile."""
        self.log = open(folder / "log", "wb")
        # Root, which CI is, can have no sandbox; the tests open pages of their own only.
        self.process = subprocess.Popen(
            [
                "chromium-headless-shell",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--remote-debugging-port=0",
                "--window-size=1280,900",
                f"--user-data-dir={folder / 'profile'}",
                "about:blank",
            ],
            stderr=self.log,
            start_new_session=True,
        )
        self.numbers, self.complaints, self.requests, self.session = itertools.count(1), [], [], {}
        self.reached = set()  # (which page, what it has reached in its life)
        try:
            self._attach(*self._endpoint(folder / "profile" / "DevToolsActivePort"))
        except BaseException:
            self._end()
            raise

    def _attach(self, port, path):
        """Opens the tab, and asks for all that happens in it."""
        self.socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}{path}", suppress_origin=True, timeout=90
        )
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {
            "sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)[
                "sessionId"
            ]
        }
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def _endpoint(self, path):
        for _ in range(600):
            if path.exists() and len(path.read_text().split()) == 2:
                return path.read_text().split()
            assert self.process.poll() is None, "the browser ended"
            time.sleep(0.1)
        raise TimeoutError("the browser did not start")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()
        self._end()

    def _end(self):
        os.killpg(
            self.process.pid, signal.SIGKILL
        )  # the program is a script that starts the browser
        self.process.wait(30)
        self.log.close()

    def call(self, method, **parameters):
        """The result of a DevTools command."""
        number = next(self.numbers)
        self.socket.send(
            json.dumps({"id": number, "method": method, "params": parameters, **self.session})
        )
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def _receive(self):
        message = json.loads(self.socket.recv())
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(parameters["exceptionDetails"]["exception"].get("description"))
        elif method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Page.lifecycleEvent":
            self.reached.add((parameters["loaderId"], parameters["name"]))
        return message

    def open(self, path):
        """Opens a file, and returns when its scripts have run and it shows: Chromium drops clicks before that."""
        self.complaints.clear()
        self.requests.clear()
        loader = self.call("Page.navigate", url=path.as_uri())["loaderId"]
        while not {(loader, "load"), (loader, "firstPaint")} <= self.reached:
            self._receive()

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page, waited for where it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]["exception"][
            "description"
        ]
        return answer["result"].get("value")

    def press(self, key):
        """Presses a key of _KEYS in whatever has the focus."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=_KEYS[key],
            )

    def click(self, selector):
        """Clicks the middle of an element with the mouse."""
        x, y = self.evaluate(f"""(() => {{
            const node = document.querySelector({json.dumps(selector)});
            node.scrollIntoView({{block: "center"}});
            const box = node.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2]; }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
