"""Make any compiled MuJoCo model drawable by our own ray tracer.

The model that is drawn holds what can be seen of the other one and nothing else: one fixed body
with its geoms, its sites as geoms (which is how most libraries show a goal), its lights and one
camera. Where everything stands comes with every image, so there is nothing to simulate, and what
the ray tracer refuses of a model's dynamics is not there.
"""

import hashlib

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from envs.external.camera import Pose
from envs.simulation.physics import Scene
from envs.simulation.renderer import RayTracer

# By default MuJoCo's viewers show the groups below this number, of geoms and of sites.
VISIBLE_GROUPS = 3
# The ray tracer knows no transparency: what has less opacity than this is left out, everything else
# is drawn as if opaque.
LEAST_OPACITY = 0.2
CAMERA = "view"

_RGB = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
_SITE_SHAPES = {
    "mjGEOM_SPHERE",
    "mjGEOM_CAPSULE",
    "mjGEOM_ELLIPSOID",
    "mjGEOM_CYLINDER",
    "mjGEOM_BOX",
}
_MATERIAL = ("rgba", "emission", "specular", "shininess", "reflectance", "texuniform", "texrepeat")
_LIGHT = (
    "active",
    "ambient",
    "attenuation",
    "castshadow",
    "cutoff",
    "diffuse",
    "exponent",
    "specular",
    "type",
)
# The fields that decide how a model looks. An environment may change the first as it runs; the
# second take long to read.
_CHANGING_FIELDS = (
    *("geom_rgba", "geom_size", "geom_matid", "geom_group", "geom_dataid", "mat_rgba", "mat_texid"),
    *("site_rgba", "site_size", "site_group", "site_matid", "light_active", "light_diffuse"),
)
_FIXED_FIELDS = (
    "geom_type",
    "site_type",
    "mat_texrepeat",
    "tex_data",
    "mesh_vert",
    "mesh_face",
    "hfield_data",
)


class DrawnModel:
    """Draw one model with one appearance, at one size and one field of view.

    Args:
        model: compiled model of the environment; what is visible of it is copied.
        data: its present state, by which the tree of bounding boxes is laid out.
        size: height and width of an image.
        fovy: vertical field of view of the camera, degrees.

    Attributes:
        model: what the ray tracer draws.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, size: int, fovy: float) -> None:
        self._geoms = np.flatnonzero(
            _visible(model.geom_group, model.geom_rgba, model.geom_matid, model)
        )
        self._sites = np.flatnonzero(
            _visible(model.site_group, model.site_rgba, model.site_matid, model)
        )
        spec = _describe(model, data, self._geoms, self._sites, fovy)
        scene = Scene(
            "external scene", lambda: spec, 1, CAMERA, _sky(model), textures=bool(spec.textures)
        )
        self.model = scene.model
        # A mesh is turned and moved into its own principal axes when it is compiled, so once more
        # here.
        meshes = self.model.geom_dataid[: len(self._geoms)]
        self._meshes = np.flatnonzero(
            (self.model.geom_type[: len(self._geoms)] == _mesh_type()) & (meshes >= 0)
        )
        self._offsets = self.model.mesh_pos[meshes[self._meshes]]
        self._turns = np.array(
            [_rotation(quat) for quat in self.model.mesh_quat[meshes[self._meshes]]]
        ).reshape(-1, 3, 3)
        self._tracer = RayTracer(scene, size, 1)

    def draw(
        self, data: mujoco.MjData, pose: Pose, out: UInt8[np.ndarray, "height width 3"]
    ) -> None:
        """Draw a state.

        Args:
            data: the state of the model, or of another one that looks the same.
            pose: the camera's.
            out: where to draw.
        """
        positions, rotations = self._placed(data)
        poses = self._tracer.poses
        poses["geom_xpos"][0] = positions.reshape(-1)
        poses["geom_xmat"][0] = rotations.reshape(-1)
        poses["cam_xpos"][0] = pose.position
        poses["cam_xmat"][0] = pose.rotation.reshape(-1)
        poses["light_xpos"][0] = data.light_xpos.reshape(-1)
        poses["light_xdir"][0] = data.light_xdir.reshape(-1)
        self._tracer.draw(1, out[None])

    def _placed(
        self, data: mujoco.MjData
    ) -> tuple[Float[np.ndarray, "geom 3"], Float[np.ndarray, "geom 3 3"]]:
        positions = np.concatenate([data.geom_xpos[self._geoms], data.site_xpos[self._sites]])
        rotations = np.concatenate(
            [data.geom_xmat[self._geoms], data.site_xmat[self._sites]]
        ).reshape(-1, 3, 3)
        turned = rotations[self._meshes]
        positions[self._meshes] += np.einsum("gij,gj->gi", turned, self._offsets)
        rotations[self._meshes] = turned @ self._turns
        return positions, rotations


def appearance_digest(model: mujoco.MjModel) -> bytes:
    """Return a digest of those looks of a model that an environment may change as it runs."""
    return _digest(model, _CHANGING_FIELDS)


def shape_digest(model: mujoco.MjModel) -> bytes:
    """Return a digest of the other looks of a model.

    Models with equal digests, of both kinds, are drawn alike, wherever their parts are placed.
    """
    return _digest(model, _FIXED_FIELDS)


def _digest(model: mujoco.MjModel, names: tuple[str, ...]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        values = np.ascontiguousarray(getattr(model, name))
        digest.update(f"{name}{values.shape}".encode() + values.tobytes())
    return digest.digest()


def _visible(
    groups: np.ndarray, colours: np.ndarray, materials: np.ndarray, model: mujoco.MjModel
) -> np.ndarray:
    """Return True for what is in a group that is shown and has enough opacity.

    A material's opacity counts where its colour does.
    """
    opacity = colours[:, 3].copy()
    plain = (colours == np.array([0.5, 0.5, 0.5, 1.0], np.float32)).all(axis=1)
    coloured = (materials >= 0) & plain
    opacity[coloured] = model.mat_rgba[materials[coloured], 3]
    return np.asarray((groups >= 0) & (groups < VISIBLE_GROUPS) & (opacity >= LEAST_OPACITY))


def _describe(
    model: mujoco.MjModel, data: mujoco.MjData, geoms: np.ndarray, sites: np.ndarray, fovy: float
) -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.stat.extent = model.stat.extent
    spec.stat.center = model.stat.center
    for name in ("ambient", "diffuse", "specular", "active"):
        setattr(spec.visual.headlight, name, getattr(model.vis.headlight, name))
    spec.visual.map.znear = model.vis.map.znear
    spec.visual.map.zfar = model.vis.map.zfar
    used = set(model.geom_matid[geoms]) | set(model.site_matid[sites])
    _add_materials(spec, model, sorted(int(index) for index in used if index >= 0))
    _add_shapes(spec, model, geoms)
    for geom in geoms:
        _add_geom(spec, model, data, int(geom))
    for site in sites:
        _add_site(spec, model, data, int(site))
    spec.worldbody.add_camera(name=CAMERA, fovy=fovy)
    for light in range(model.nlight):
        fields = {name: getattr(model, f"light_{name}")[light] for name in _LIGHT}
        spec.worldbody.add_light(pos=data.light_xpos[light], dir=data.light_xdir[light], **fields)
    return spec


def _add_materials(spec: mujoco.MjSpec, model: mujoco.MjModel, materials: list[int]) -> None:
    added = set()
    for index in materials:
        material = spec.add_material(name=f"material{index}")
        for name in _MATERIAL:
            setattr(material, name, getattr(model, f"mat_{name}")[index])
        texture = int(model.mat_texid[index, _RGB])
        if texture >= 0:
            if texture not in added:
                _add_texture(spec, model, texture)
                added.add(texture)
            material.textures[_RGB] = f"texture{texture}"


def _add_texture(spec: mujoco.MjSpec, model: mujoco.MjModel, index: int) -> None:
    height, width, channels = (
        int(getattr(model, f"tex_{name}")[index]) for name in ("height", "width", "nchannel")
    )
    first = model.tex_adr[index]
    kind = mujoco.mjtTexture(int(model.tex_type[index]))
    texture = spec.add_texture(
        name=f"texture{index}", type=kind, height=height, width=width, nchannel=channels
    )
    texture.data = model.tex_data[first : first + height * width * channels].tobytes()


def _add_shapes(spec: mujoco.MjSpec, model: mujoco.MjModel, geoms: np.ndarray) -> None:
    """Add the meshes and height fields of these geoms."""
    for index in sorted(
        {int(model.geom_dataid[geom]) for geom in geoms if model.geom_type[geom] == _mesh_type()}
    ):
        _add_mesh(spec, model, index)
    height_field = int(mujoco.mjtGeom.mjGEOM_HFIELD)
    for index in sorted(
        {int(model.geom_dataid[geom]) for geom in geoms if model.geom_type[geom] == height_field}
    ):
        rows = int(model.hfield_nrow[index])
        columns = int(model.hfield_ncol[index])
        first = model.hfield_adr[index]
        heights = model.hfield_data[first : first + rows * columns]
        size = model.hfield_size[index]
        spec.add_hfield(name=f"hfield{index}", nrow=rows, ncol=columns, size=size, userdata=heights)


def _add_mesh(spec: mujoco.MjSpec, model: mujoco.MjModel, index: int) -> None:
    def rows(name: str, address: str, count: str) -> np.ndarray:
        first = int(getattr(model, f"mesh_{address}")[index])
        part: np.ndarray = getattr(model, f"mesh_{name}")[
            first : first + int(getattr(model, f"mesh_{count}")[index])
        ]
        return part.reshape(-1)

    mesh = spec.add_mesh(name=f"mesh{index}")
    # What is drawn may be open, flat or inside out, which a solid may not be.
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    mesh.uservert = rows("vert", "vertadr", "vertnum")
    mesh.userface = rows("face", "faceadr", "facenum")
    mesh.usernormal = rows("normal", "normaladr", "normalnum")
    mesh.userfacenormal = rows("facenormal", "faceadr", "facenum")
    if model.mesh_texcoordadr[index] >= 0:
        mesh.usertexcoord = rows("texcoord", "texcoordadr", "texcoordnum")
        mesh.userfacetexcoord = rows("facetexcoord", "faceadr", "facenum")


def _add_geom(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData, index: int) -> None:
    kind = int(model.geom_type[index])
    shape = int(model.geom_dataid[index])
    geom = spec.worldbody.add_geom(
        type=mujoco.mjtGeom(kind),
        size=model.geom_size[index],
        pos=data.geom_xpos[index],
        quat=_quaternion(data.geom_xmat[index]),
    )
    set_material(geom, model.geom_rgba[index], int(model.geom_matid[index]))
    if kind == _mesh_type():
        geom.meshname = f"mesh{shape}"
    elif kind == int(mujoco.mjtGeom.mjGEOM_HFIELD):
        geom.hfieldname = f"hfield{shape}"


def _add_site(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData, index: int) -> None:
    kind = mujoco.mjtGeom(int(model.site_type[index]))
    if kind.name not in _SITE_SHAPES:
        raise ValueError(
            f"site {model.site(index).name!r} is a {kind.name}, which cannot be drawn as a geom"
        )
    geom = spec.worldbody.add_geom(
        type=kind,
        size=model.site_size[index],
        pos=data.site_xpos[index],
        quat=_quaternion(data.site_xmat[index]),
    )
    set_material(geom, model.site_rgba[index], int(model.site_matid[index]))


def set_material(geom: mujoco.MjsGeom, rgba: np.ndarray, material: int) -> None:
    """Give a geom a colour and a material (-1: none), and let it collide with nothing."""
    geom.rgba = rgba
    geom.group = 0
    geom.contype = 0
    geom.conaffinity = 0
    if material >= 0:
        geom.material = f"material{material}"


def _sky(model: mujoco.MjModel) -> tuple[float, float, float]:
    """Return the mean colour of the model's sky; black where it has none."""
    skies = np.flatnonzero(model.tex_type == int(mujoco.mjtTexture.mjTEXTURE_SKYBOX))
    if not len(skies):
        return 0.0, 0.0, 0.0
    height, width, channels = (
        int(getattr(model, f"tex_{name}")[skies[0]]) for name in ("height", "width", "nchannel")
    )
    first = model.tex_adr[skies[0]]
    texels = model.tex_data[first : first + height * width * channels].reshape(-1, channels)
    red, green, blue = (float(colour) for colour in texels[:, :3].mean(axis=0) / 255)
    return red, green, blue


def _mesh_type() -> int:
    return int(mujoco.mjtGeom.mjGEOM_MESH)


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(matrix.reshape(-1), np.float64))
    return quaternion


def _rotation(quaternion: np.ndarray) -> Float[np.ndarray, "3 3"]:
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, np.ascontiguousarray(quaternion, np.float64))
    return matrix.reshape(3, 3)
