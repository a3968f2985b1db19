"""The Ray cluster: started or joined, its resources, its shared folder."""
