"""What is looked at before the model sees it, and after it has predicted."""
