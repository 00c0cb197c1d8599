"""``python3 -m active_convolution`` is ``acu``."""

from .cli import main

main()
