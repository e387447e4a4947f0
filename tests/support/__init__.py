"""What several test folders use: peers, beds, launchers and senders."""
