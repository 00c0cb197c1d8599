"""What an image has to become before an exported network may see it, in files: what
training.imaging knows of it."""

import json

from ..caffe.messages import by
from ..files import save_npz, whole_file
from ..training.imaging import ARRAYS

FILE = "preprocessing.json"


def write(folder, prepared):
    """Writes what ``imaging.steps`` gives into ``folder``; returns a line about it."""
    if prepared is None:
        return "images: how they were prepared is unknown (export a RUN, or give --data)"
    content, arrays = prepared
    with whole_file(folder / FILE) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
    if arrays:
        save_npz(folder / ARRAYS, **arrays)
    said = "" if content["channel_order_known"] else " (assumed: Caffe's order)"
    mean, norm = content["mean"], content["contrast_scale"]
    steps = [
        f"{content['channel_order']}{said}, 0 to 255",
        f"{content['resize']} to {by(content['size'])}",
        f"contrast normalised to {norm:g}" if norm else None,
        "whitened" if content["whitening"] else None,
        f"less {'the mean image' if mean == ARRAYS else [round(each, 4) for each in mean]}",
        f"times {content['scale']:.4g}",
        f"the middle {by(content['shape'][1:])}",
    ]
    return f"images: {', '.join(filter(None, steps))} ({FILE})"
