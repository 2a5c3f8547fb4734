from setuptools import find_packages, setup

PACKAGE = "egowm_sim"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    description="A simulated mobile base and a humanoid behind ordinary ROS topics",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"sim_robot = {PACKAGE}.node:main",
            f"sim_humanoid = {PACKAGE}.humanoid_node:main",
            f"sim_record = {PACKAGE}.record:main",
            f"scs_validate = {PACKAGE}.validate:main",
            f"drift_bench = {PACKAGE}.drift_bench:main",
            f"plan_bench = {PACKAGE}.plan_bench:main",
            f"policy_eval = {PACKAGE}.policy_eval.cli:main",
        ],
    },
)
