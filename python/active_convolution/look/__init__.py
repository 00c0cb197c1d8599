"""Pictures: of positions (synapses), moving (animation), and of how networks learned (curves), in one style."""

from ..command import libraries_unheard

with (
    libraries_unheard()
):  # fontconfig, which matplotlib asks for fonts, complains where it may not write its cache
    import matplotlib.font_manager  # noqa: F401
