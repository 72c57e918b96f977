"""Write a run's model as one file for other programs:  python -m src.export outputs/runs/KEY

The file holds the model with batch norms, DAP and other linear layers folded, its class names, normalisation, palette, run and
commit. Right after it is written, its scores are compared with the model's on real images; a file that differs is not kept.

Use an ONNX file with onnxruntime, numpy and PIL alone:

    import json, numpy, onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession("model.onnx")
    about = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    image = Image.open("photo.jpg").convert("RGB")
    scale = (about["long_side"] or max(image.size)) / max(image.size)
    small = image.resize([round(scale * side) for side in image.size], Image.Resampling.BILINEAR)
    pixels = (numpy.asarray(small) / 255 - about["mean"]) / about["std"]
    scores = session.run(["scores"], {"image": pixels.transpose(2, 0, 1)[None].astype("float32")})[0]
    mask = Image.fromarray(scores[0].argmax(0).astype("uint8"))
    mask.putpalette(about["palette"])
    mask.resize(image.size, Image.Resampling.NEAREST).save("mask.png")

Use a file of torch.export with torch alone:

    extra = {"description.json": ""}
    model = torch.export.load("model.pt2", extra_files=extra).module()
    about = {name: json.loads(value) for name, value in json.loads(extra["description.json"]).items()}
    scores = model(pixels)
"""

import argparse
from pathlib import Path

from exfuse.cli import running as cli


def main() -> None:
    """Read the command line and export."""
    introduction, _, usage = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        "python -m src.export",
        description=introduction.splitlines()[0],
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument(
        "--format", choices=("onnx", "torch"), default="onnx", help="torch: torch.export (default: %(default)s)"
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of all images that the file will take")
    sizes.add_argument("--dynamic", action="store_true", help="images of any size (the default)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: export/KEY.onnx or .pt2 in the run's folder")
    arguments = parser.parse_args()
    if arguments.size and min(arguments.size) < 1:
        parser.error(f"--size {arguments.size[0]} {arguments.size[1]}: expected two positive numbers of pixels")

    from exfuse.exporting.command import export  # torch loads only once the command line is known to be right

    export(arguments.run, arguments.format, tuple(arguments.size) if arguments.size else None, arguments.output)


if __name__ == "__main__":
    cli.run(main)
