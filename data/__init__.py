"""Paired pictures: folders in the layouts of pix2pix, and procedural ones."""
