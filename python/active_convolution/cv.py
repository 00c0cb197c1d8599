"""OpenCV's Python module, ``cv2``, loaded so that a Ctrl-C meanwhile is not lost.

OpenCV starts up in C++, and drops the KeyboardInterrupt that Python raises there.
"""
import contextlib
import signal
import threading


@contextlib.contextmanager
def _interrupt_held_back():
    """Lets a SIGINT come to its handler at the end.

    A note instead of a blocked signal: any other thread would still receive that one for this.
    """
    handler, came = signal.getsignal(signal.SIGINT), []
    if not callable(handler) or threading.current_thread() is not threading.main_thread():  # no Python code to disturb
        yield
        return
    signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)


with _interrupt_held_back():
    import cv2  # noqa: F401
