"""ImageService, LaunchTemplateService, KeyPairService, PlacementGroupService (protos/minicloud/wire/catalog.proto)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from minicloud.base.arn import Caller
from minicloud.base.errors import CloudError, InvalidRequest, MissingParameter
from minicloud.compute import commands, images, keypairs, keys, templates
from minicloud.compute.model import Group, Image, KeyPair, Template
from minicloud.compute.ports import ImageStore
from minicloud.compute.queries import Page, Pager
from minicloud.compute.rpc import translate
from minicloud.compute.service import ComputeService
from minicloud.wire import catalog_pb2 as pb


class ImageServicer:
    def __init__(
        self, service: ComputeService, pager: Pager, store: ImageStore, new_image_id: Callable[[], str], arch: str
    ) -> None:
        self._service = service
        self._state = service.state
        self._pager = pager
        self._store = store
        self._new_image_id = new_image_id
        self._arch = arch

    async def Get(self, request: pb.GetImageRequest, caller: Caller) -> pb.Image:
        return await self._service.shown(
            lambda: translate.image(images.find(self._state, caller.scope, request.image_id))
        )

    async def List(self, request: pb.ListImagesRequest, caller: Caller) -> pb.ListImagesResponse:
        return await self._service.shown(lambda: self._list(request, caller))

    async def Watch(self, request: pb.GetImageRequest, caller: Caller) -> AsyncIterator[pb.Image]:
        last = b""
        async with self._service.waiters.watch((Image.kind, request.image_id)) as watch:
            while True:
                message = await self.Get(request, caller)
                if (raw := message.SerializeToString(deterministic=True)) != last:
                    last = raw
                    yield message
                await watch.wait()

    def _list(self, request: pb.ListImagesRequest, caller: Caller) -> pb.ListImagesResponse:
        own = self._state.page(Image.kind, caller.scope)
        ids = sorted([*own, *images.BUILTIN]) if request.include_builtin else own
        page = Page(request.page_size, request.page_token)
        context = f"images {caller.scope} {request.include_builtin}"
        some, token = self._pager.cut(context, page, ids)
        found = [images.BUILTIN.get(one) or self._state.images[one] for one in some]
        return pb.ListImagesResponse(images=[translate.image(one) for one in found], next_page_token=token)

    async def Create(self, request: pb.CreateImageRequest, caller: Caller) -> pb.Image:
        command = commands.CreateImage(
            caller.scope,
            request.instance_id,
            request.name,
            request.description,
            request.no_reboot,
            dict(request.tags),
        )
        return translate.image(await self._service.submit(command))

    async def Register(self, requests: AsyncIterator[pb.RegisterImageRequest], caller: Caller) -> pb.Image:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("part") != "header":
            raise MissingParameter("the first message must be the header", field="header")
        header = first.header
        arch = header.architecture or self._arch
        images.check_registration(self._state, caller.scope, header.name, arch)
        image_id = self._new_image_id()
        size = await self._store.store(image_id, _chunks(requests))
        command = commands.RegisterImage(
            caller.scope, image_id, header.name, arch, size, header.description, dict(header.tags)
        )
        try:
            return translate.image(await self._service.submit(command))
        except CloudError:  # no other: a caller that goes away does not stop the commit, and the image needs its tar
            await self._store.delete(image_id)
            raise

    async def Deregister(self, request: pb.GetImageRequest, caller: Caller) -> pb.Image:
        gone: Image = await self._service.submit(commands.DeregisterImage(caller.scope, request.image_id))
        await self._store.delete(gone.id)
        return translate.image(gone)


async def _chunks(requests: AsyncIterator[pb.RegisterImageRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequest("after the header only chunks may come", field="chunk")
        yield request.chunk


class LaunchTemplateServicer:
    def __init__(self, service: ComputeService, pager: Pager) -> None:
        self._service = service
        self._state = service.state
        self._pager = pager

    async def Create(self, request: pb.CreateLaunchTemplateRequest, caller: Caller) -> pb.LaunchTemplateVersion:
        command = commands.CreateTemplate(
            caller.scope,
            request.name,
            translate.template_data(request.data),
            request.version_description,
            request.client_token,
            dict(request.tags),
        )
        return translate.template_version(*await self._service.submit(command))

    async def CreateVersion(
        self, request: pb.CreateLaunchTemplateVersionRequest, caller: Caller
    ) -> pb.LaunchTemplateVersion:
        command = commands.CreateTemplateVersion(
            caller.scope,
            request.template,
            translate.template_data(request.data),
            request.source_version,
            request.version_description,
            request.client_token,
        )
        return translate.template_version(*await self._service.submit(command))

    async def SetDefaultVersion(self, request: pb.SetDefaultVersionRequest, caller: Caller) -> pb.LaunchTemplate:
        command = commands.SetDefaultVersion(caller.scope, request.template, request.version)
        return translate.template(await self._service.submit(command))

    async def Get(self, request: pb.GetLaunchTemplateRequest, caller: Caller) -> pb.LaunchTemplateVersion:
        return await self._service.shown(lambda: self._version(request, caller))

    def _version(self, request: pb.GetLaunchTemplateRequest, caller: Caller) -> pb.LaunchTemplateVersion:
        template = templates.find_template(self._state, caller.scope, request.template)
        version = templates.find(self._state, caller.scope, request.template, request.version)
        return translate.template_version(template, version)

    async def List(self, request: pb.ListLaunchTemplatesRequest, caller: Caller) -> pb.ListLaunchTemplatesResponse:
        return await self._service.shown(lambda: self._list(request, caller))

    def _list(self, request: pb.ListLaunchTemplatesRequest, caller: Caller) -> pb.ListLaunchTemplatesResponse:
        page = Page(request.page_size, request.page_token)
        ids, token = self._pager.cut(f"templates {caller.scope}", page, self._state.page(Template.kind, caller.scope))
        return pb.ListLaunchTemplatesResponse(
            templates=[translate.template(self._state.templates[one]) for one in ids], next_page_token=token
        )

    async def ListVersions(
        self, request: pb.ListLaunchTemplateVersionsRequest, caller: Caller
    ) -> pb.ListLaunchTemplateVersionsResponse:
        return await self._service.shown(lambda: self._versions(request, caller))

    def _versions(
        self, request: pb.ListLaunchTemplateVersionsRequest, caller: Caller
    ) -> pb.ListLaunchTemplateVersionsResponse:
        template = templates.find_template(self._state, caller.scope, request.template)
        keys_ = [f"{one.version:08d}" for one in templates.versions(self._state, template)]
        page = Page(request.page_size, request.page_token)
        some, token = self._pager.cut(f"template versions {template.id}", page, keys_)
        found = [self._state.versions[f"{template.id}/{int(one)}"] for one in some]
        return pb.ListLaunchTemplateVersionsResponse(
            versions=[translate.template_version(template, one) for one in found], next_page_token=token
        )

    async def Delete(self, request: pb.DeleteLaunchTemplateRequest, caller: Caller) -> pb.LaunchTemplate:
        return translate.template(await self._service.submit(commands.DeleteTemplate(caller.scope, request.template)))


class KeyPairServicer:
    def __init__(self, service: ComputeService, pager: Pager) -> None:
        self._service = service
        self._state = service.state
        self._pager = pager

    async def Create(self, request: pb.CreateKeyPairRequest, caller: Caller) -> pb.KeyPairMaterial:
        made = keypairs.generate(request.name)
        key = await self._put(caller, request.name, made.public, dict(request.tags))
        return pb.KeyPairMaterial(key_pair=translate.key_pair(key), private_key=made.private_pem)

    async def Import(self, request: pb.ImportKeyPairRequest, caller: Caller) -> pb.KeyPair:
        public = keypairs.parse(request.public_key)
        return translate.key_pair(await self._put(caller, request.name, public, dict(request.tags)))

    async def _put(self, caller: Caller, name: str, public: keypairs.PublicKey, tags: dict[str, str]) -> KeyPair:
        command = commands.PutKeyPair(caller.scope, name, public.type, public.line, public.fingerprint, tags)
        key: KeyPair = await self._service.submit(command)
        return key

    async def Get(self, request: pb.GetKeyPairRequest, caller: Caller) -> pb.KeyPair:
        return await self._service.shown(
            lambda: translate.key_pair(keys.find_key(self._state, caller.scope, request.name))
        )

    async def List(self, request: pb.ListKeyPairsRequest, caller: Caller) -> pb.ListKeyPairsResponse:
        return await self._service.shown(lambda: self._list(request, caller))

    def _list(self, request: pb.ListKeyPairsRequest, caller: Caller) -> pb.ListKeyPairsResponse:
        page = Page(request.page_size, request.page_token)
        ids, token = self._pager.cut(f"keys {caller.scope}", page, self._state.page(KeyPair.kind, caller.scope))
        return pb.ListKeyPairsResponse(
            key_pairs=[translate.key_pair(self._state.key_pairs[one]) for one in ids], next_page_token=token
        )

    async def Delete(self, request: pb.GetKeyPairRequest, caller: Caller) -> pb.KeyPair:
        return translate.key_pair(await self._service.submit(commands.DeleteKeyPair(caller.scope, request.name)))


class PlacementGroupServicer:
    def __init__(self, service: ComputeService, pager: Pager) -> None:
        self._service = service
        self._state = service.state
        self._pager = pager

    async def Create(self, request: pb.CreatePlacementGroupRequest, caller: Caller) -> pb.PlacementGroup:
        command = commands.CreateGroup(caller.scope, request.name, request.strategy, request.partitions)
        return self._message(await self._service.submit(command))

    async def Get(self, request: pb.GetPlacementGroupRequest, caller: Caller) -> pb.PlacementGroup:
        return await self._service.shown(
            lambda: self._message(keys.find_group(self._state, caller.scope, request.name))
        )

    async def List(self, request: pb.ListPlacementGroupsRequest, caller: Caller) -> pb.ListPlacementGroupsResponse:
        return await self._service.shown(lambda: self._list(request, caller))

    def _list(self, request: pb.ListPlacementGroupsRequest, caller: Caller) -> pb.ListPlacementGroupsResponse:
        page = Page(request.page_size, request.page_token)
        ids, token = self._pager.cut(f"groups {caller.scope}", page, self._state.page(Group.kind, caller.scope))
        return pb.ListPlacementGroupsResponse(
            groups=[self._message(self._state.groups[one]) for one in ids], next_page_token=token
        )

    async def Delete(self, request: pb.GetPlacementGroupRequest, caller: Caller) -> pb.PlacementGroup:
        return self._message(await self._service.submit(commands.DeleteGroup(caller.scope, request.name)))

    def _message(self, group: Any) -> pb.PlacementGroup:
        return translate.group(self._state, group)
