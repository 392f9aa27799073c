"""`outrigger check`: whether a cluster can have a mesh, and whether the mesh in it works."""
