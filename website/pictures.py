"""The site's favicon and social card, from the example CT: `python website/pictures.py` writes them
into notebooks/images/."""

from pathlib import Path

import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from diffpose.data import load_example_ct
from diffpose.drr import DRR
from diffpose.pose import RigidTransform
from diffpose.scene import visualize_scene

FOLDER = Path(__file__).resolve().parents[1] / "notebooks" / "images"
BLUE, ORANGE, INK = "#0072B2", "#E69F00", "#1a1a1a"
TEXT = ["X-ray to CT registration", "by exact, differentiable", "X-ray rendering"]


def favicon(size: int = 256) -> Image.Image:
    "A source, its rays, a body and a detector; drawn large and made small, for smooth edges."
    n = 4 * size
    picture = Image.new("RGBA", (n, n))
    draw = ImageDraw.Draw(picture)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x * n / 16, y * n / 16)

    draw.rounded_rectangle([at(0, 0), at(16, 16)], radius=n * 3 // 16, fill="white")
    draw.polygon([at(8, 1.9), at(1.5, 13.2), at(14.5, 13.2)], fill="#cfe6f3")
    for x in (1.9, 8, 14.1):
        draw.line([at(8, 1.9), at(x, 13.2)], fill=BLUE, width=n // 32)
    draw.ellipse([at(4.6, 5.6), at(11.4, 11.0)], fill="#8a8a8a")
    draw.ellipse([at(7.0, 7.2), at(9.0, 9.2)], fill="white")
    draw.ellipse([at(6.7, 0.6), at(9.3, 3.2)], fill=ORANGE)
    draw.rounded_rectangle([at(1, 12.8), at(15, 14.6)], radius=n // 32, fill=INK)
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(
        f"{get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf", size
    )


def card(width: int = 1200, height: int = 630) -> Image.Image:
    "A C-arm around the patient's bones, and what it sees."
    subject = load_example_ct()
    drr = DRR(subject, sdd=1020.0, height=512, delx=0.75)
    pose = RigidTransform.from_euler([25, 8, 0], [0, 750, 0])
    bones = [
        "ribs",
        "vertebrae",
        "sternum",
        "clavicula_left",
        "clavicula_right",
        "scapula_left",
        "scapula_right",
        "heart",
    ]
    scene = visualize_scene(drr, pose, labels=bones, grid=False, n_rays=25, off_screen=True)
    scene.remove_legend()
    scene.view_vector((-1.0, 0.62, 0.5), (0, 0, 1))
    scene.camera.zoom(1.75)
    left = Image.fromarray(
        scene.screenshot(None, window_size=(1600, 1260), return_img=True)
    ).resize((800, height), Image.Resampling.LANCZOS)
    scene.close()
    with torch.no_grad():
        image = drr(pose)[0, 0]
    xray = Image.fromarray((255 * (image / image.max()).clamp(0, 1)).byte().numpy()).resize(
        (300, 300), Image.Resampling.LANCZOS
    )
    picture = Image.new("RGB", (width, height), "white")
    picture.paste(left, (0, 75))
    picture.paste(xray, (806, 290))
    draw = ImageDraw.Draw(picture)
    draw.text((802, 36), "diffpose", font=font(80, bold=True), fill=BLUE)
    for k, line in enumerate(TEXT):
        draw.text((806, 148 + 40 * k), line, font=font(30), fill=INK)
    return picture.quantize(200, dither=Image.Dither.NONE)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, picture in (("favicon.png", favicon()), ("card.png", card())):
        picture.save(FOLDER / name, optimize=True)
        print(f"wrote {FOLDER.name}/{name}, {(FOLDER / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
