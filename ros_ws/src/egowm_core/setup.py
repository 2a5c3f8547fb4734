from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "egowm_core"

# egowm_core/ beside this file is a symbolic link to the repository's egowm_core/: both must have been checked out.
if not (Path(__file__).parent / PACKAGE / "__init__.py").is_file():
    raise SystemExit(f"{PACKAGE}/ leads nowhere: it is a link to ../../../{PACKAGE}. Build from a whole checkout.")

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={f"{PACKAGE}.embodiments": ["*.yaml"], f"{PACKAGE}.embedded": ["**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,  # checkpoints and embodiments are read as files
    description="Action-conditioned video world models for robots: the library",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"adapt = {PACKAGE}.adapt_cli:main",
            f"bench = {PACKAGE}.bench:main",
            f"export = {PACKAGE}.export_onnx:main",
        ],
    },
)
