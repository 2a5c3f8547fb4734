"""Qualities of service that several nodes share."""

from rclpy.qos import QoSProfile, ReliabilityPolicy

SENSOR = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)  # matches any; 0.1 s of joints at 200 Hz
