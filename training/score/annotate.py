"""`egowm-annotate VIDEO|IMAGE OUT.html`: a page to mark structures on a frame by clicking, for `egowm-score`.

The page holds its picture and its script; it needs no network and sends nothing. Knows the annotation format, no score.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path

import cv2
from markupsafe import Markup

from egowm_core.errors import DataError, EgowmError
from egowm_core.files import write_text
from egowm_core.types import ImageArray
from training.score.annotation import FORMAT, VERSION, Annotation, Marked, read_annotation
from training.score.page import environment, script_hash
from training.score.videos import read_video

_LARGEST = 1600  # px of the longer side of the picture that is shown; coordinates are of the frame


def annotation_page(
    image: ImageArray, *, name: str, marked: Annotation | None = None, folder: Path | None = None
) -> str:
    """The page for a frame (H,W,3) uint8; ``name`` is what the downloaded file is called, ``marked`` what is there.

    Mask files of ``marked`` are kept, named relative to ``folder``, but cannot be drawn on.
    """
    height, width = image.shape[:2]
    factor = min(1.0, _LARGEST / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    shown = image if factor == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    png = cv2.imencode(".png", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))[1].tobytes()
    structures = [] if marked is None else [_plain(item, folder) for item in marked.structures]
    data = {"format": FORMAT, "version": VERSION, "height": height, "width": width, "structures": structures}
    templates = environment()
    script = templates.get_template("annotate.js.j2").render(
        data=_in_script({"frame": data, "file": f"{name}.json", "picture": _data_address(png)})
    )
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src '{script_hash(script)}'"
    page = templates.get_template("annotate.html.j2")
    return page.render(title=f"Structures on {name}", name=name, script=Markup(script), policy=policy, data=data)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-annotate",
        description="Make a page to mark structures on a frame: open it in a browser, click points or draw outlines,"
        " and download the JSON for egowm-score --structures.",
        epilog="example: egowm-annotate observed.mp4 mark.html",
    )
    parser.add_argument(
        "source", type=Path, help="video (its first frame is the context), picture, or folder of pictures"
    )
    parser.add_argument("out", type=Path, help="page to write, ending in .html")
    parser.add_argument("--frame", type=int, default=0, help="which frame of a video, from 0 (default 0)")
    parser.add_argument("--edit", type=Path, metavar="FILE.json", help="begin with what is marked in this annotation")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.frame < 0 or arguments.out.suffix.lower() not in (".html", ".htm"):
        print("egowm-annotate: --frame counts from 0, and OUT ends in .html", file=sys.stderr)
        return 2
    try:
        video = read_video(arguments.source, limit=arguments.frame + 1)
        if len(video.images) <= arguments.frame:
            raise DataError(
                f"{arguments.source} has {video.length} frames, --frame {arguments.frame} is beyond the last"
                + (f" ({video.damage})" if video.damage else "")
            )
        marked = None if arguments.edit is None else read_annotation(arguments.edit)
        image = video.images[arguments.frame]
        if marked is not None and (marked.height, marked.width) != image.shape[:2]:
            raise DataError(
                f"{arguments.edit} is of a {marked.height}x{marked.width} frame, {arguments.source} has"
                f" {image.shape[0]}x{image.shape[1]}; give the video that it was made on"
            )
        folder = None if arguments.edit is None else arguments.edit.parent
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.out, annotation_page(image, name=arguments.source.stem, marked=marked, folder=folder))
    except (EgowmError, OSError) as error:
        print(f"egowm-annotate: {error}", file=sys.stderr)
        return 1
    print(f"open {arguments.out} in a browser, mark structures, and download {arguments.source.stem}.json")
    return 0


def _plain(item: Marked, folder: Path | None) -> dict[str, object]:
    found: dict[str, object] = {"name": item.name}
    for kind, points in (("points", item.points), ("polygon", item.polygon)):
        if points is not None:
            found[kind] = [[round(float(x), 2), round(float(y), 2)] for x, y in points]
    if item.mask is None:
        return found
    return {**found, "mask": item.mask.name if folder is None else item.mask.relative_to(folder).as_posix()}


def _data_address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _in_script(data: object) -> Markup:
    """JSON that cannot end the script it stands in, whatever names it holds."""
    text = json.dumps(data)
    for character, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escaped)
    return Markup(text)


if __name__ == "__main__":
    sys.exit(main())
