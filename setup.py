"""Package metadata: everything is read from `settings.ini`, the one place where nbdev keeps it."""

from configparser import ConfigParser
from pathlib import Path

from packaging.version import Version
from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="])
config.read("settings.ini", encoding="utf-8")
settings = config["DEFAULT"]

minor_versions = range(Version(settings["min_python"]).minor, 14)
extras = {
    name: settings[f"{name}_requirements"].split()
    for name in ("dev", "datasets", "experiments", "logs", "peers")
}

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    keywords=settings["keywords"],
    license="MIT",
    license_files=["LICENSE"],
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    # a path in sys.path, not an import hook, for `pip install -e .`: a hook is asked after
    # site-packages, where the cache of compiled kernels of an earlier `pip install .` may still
    # lie in a folder of the same name
    package_dir={"": "."},
    packages=find_packages(include=["diffpose", "diffpose.*"]),
    package_data={"diffpose": ["assets/*", "py.typed"]},
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{settings['lib_name']}={settings['lib_path']}._modidx:d"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Natural Language :: English",
        "Operating System :: OS Independent",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        *[f"Programming Language :: Python :: 3.{minor}" for minor in minor_versions],
    ],
    zip_safe=False,
)
