"""How much ``imagine``'s topics and services hold, on both ends."""

from rclpy.qos import QoSProfile

MOST_FRAMES = 64  # of feedback from one turn
FEEDBACK = QoSProfile(depth=MOST_FRAMES)
REQUESTS = QoSProfile(depth=128)  # with the stock 10, goals beyond ten at once are lost, and nobody answers them
