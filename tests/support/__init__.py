"""What several test folders use: peers, environments, launchers and senders."""
