"""Everything that touches a phone will live here and implement amc_mobile.device's protocol; nothing does yet."""
