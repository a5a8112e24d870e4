"""X-rays by RTK's Joseph projector, in the pixels of this package's cameras."""

import itk
import numpy as np
from itk import RTK as rtk

from diffpose.camera import Camera

Image = itk.Image[itk.F, 3]


def rtk_volume(subject):
    "The density of a subject as ITK's image."
    affine, spacing = subject.density.affine, np.array(subject.density.spacing)
    values = subject.density.data[0].numpy().transpose(2, 1, 0)
    volume = itk.image_from_array(np.ascontiguousarray(values))
    volume.SetSpacing(spacing.tolist())
    volume.SetOrigin(affine[:3, 3].tolist())
    volume.SetDirection(itk.matrix_from_array(affine[:3, :3] / spacing))
    return volume


def rtk_projector(subject, sdd, size, pixel):
    "A function of one pose that gives line integrals [size, size]."
    volume = rtk_volume(subject)
    blank = rtk.ConstantImageSource[Image].New()
    blank.SetOrigin([-(size - 1) / 2 * pixel] * 2 + [0.0])
    blank.SetSpacing([pixel, pixel, 1.0])
    blank.SetSize([size, size, 1])
    blank.SetConstant(0.0)
    blank.Update()

    def project(pose):
        camera = Camera.make(pose, sdd, size, pixel)
        source, (right, down, along) = camera.source[0].numpy(), camera.axes[0].mT.numpy()
        vectors = [source, source + sdd * along, right, down]
        geometry = rtk.ThreeDCircularProjectionGeometry.New()
        geometry.SetRadiusCylindricalDetector(0)
        if not geometry.AddProjection(*[v.tolist() for v in vectors]):
            raise RuntimeError("RTK refuses the geometry")
        projector = rtk.JosephForwardProjectionImageFilter[Image, Image].New()
        projector.SetInput(0, blank.GetOutput())
        projector.SetInput(1, volume)
        projector.SetGeometry(geometry)
        projector.Update()
        return itk.array_view_from_image(projector.GetOutput())[0].copy()

    return project
