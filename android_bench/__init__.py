"""Everything that touches a phone; `device.AndroidDevice` implements amc_mobile.device's protocol. See README.md."""
