"""Nightcrew: scheduled batch jobs on EC2 workers that exist only while there is work."""
