"""A simulated mobile robot in furnished rooms, behind ordinary ROS topics or a plain Python class."""
