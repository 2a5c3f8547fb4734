from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "egowm_nodes"
CONFIGS = sorted(path.name for path in (Path(__file__).parent / PACKAGE / "config").iterdir() if path.is_file())

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["config/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/config", [f"{PACKAGE}/config/{name}" for name in CONFIGS]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,  # parameter files are read as files
    description="A world model that predicts the robot's camera, and a monitor of how well reality agreed",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"world_model = {PACKAGE}.world_model_node:main",
            f"drift_monitor = {PACKAGE}.drift_monitor_node:main",
            f"replay = {PACKAGE}.replay_node:main",
            f"demo = {PACKAGE}.demo.cli:main",
            f"dashboard = {PACKAGE}.dashboard.cli:main",
            f"imagine = {PACKAGE}.imagine.cli:main",
            f"planner = {PACKAGE}.planner_node:main",
            f"health = {PACKAGE}.health:main",
            f"stress = {PACKAGE}.stress.cli:main",
        ],
    },
)
