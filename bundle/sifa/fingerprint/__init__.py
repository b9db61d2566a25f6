"""The fingerprint: what a network was trained on, and how a scan has to be prepared for it."""
