"""Helpers of several test folders: peers, environments, launchers and senders."""
